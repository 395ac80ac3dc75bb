/* specs.h : one spec and more of every codec, `auto` twice as often, for tests that draw them or go through all. */
#ifndef TAUT_TEST_SPECS_H
#define TAUT_TEST_SPECS_H

static const char *const specs[] = {"auto",
                                    "auto",
                                    "none",
                                    "fp16",
                                    "bf16",
                                    "quant:bits=2",
                                    "quant:bits=4",
                                    "quant:bits=8,norm=l2",
                                    "quant:bits=1,norm=linf",
                                    "quant:bits=4,rotate=1",
                                    "quant:bits=3,round=nearest,zero=1",
                                    "grid:rel=0.05",
                                    "grid:rel=0.3,code=rans",
                                    "grid:step=0.01",
                                    "grid:rel=0.2,code=rans,basis=4",
                                    "topk:density=0.05",
                                    "topk:density=1",
                                    "randk:density=0.1",
                                    "randk:density=0.2,scale=1",
                                    "powersgd:rank=2",
                                    "powersgd:rank=1",
                                    "stack:topk:density=0.05+quant:bits=4",
                                    "stack:powersgd:rank=1+topk:density=0.02"};

#endif
