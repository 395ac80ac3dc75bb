"""A log as `taut train --log` writes it, of a run that never was: make_log.py STEPS LAYERS SEED [KEY=VALUE...] >RUN.jsonl
KEYs: codec (auto, none), end (1, 0), spike (steps between two violations), ms (of a step)."""
import json
import math
import random
import sys

steps, layers, seed = (int(a) for a in sys.argv[1:4])
more = dict(a.split("=", 1) for a in sys.argv[4:])
rng = random.Random(seed)
codec, spike, ms = more.get("codec", "auto"), int(more.get("spike", 0)), float(more.get("ms", 150))
names = [f"b.{i // 4}.{('qkv', 'proj', 'fc', 'out')[i % 4]}.weight" for i in range(layers)]
elements = [(49152, 16384, 65536, 65536)[i % 4] for i in range(layers)]
params = sum(elements)


def put(kind, **o):
    sys.stdout.write(json.dumps({"kind": kind, **o}, separators=(",", ":")) + "\n")


put("run", model="gpt", params=params, data="1 file, 1115394 chars, vocabulary 65", ranks=2, steps=steps, batch=8, seed=seed, codec=codec,
    budget="like:quant:bits=4", optimizer="adam", lr=0.002)
sent = dense = violations = 0
bits = [32.0] * layers
losses = []
for k in range(1, steps + 1):
    planned = codec == "auto" and k > 5
    if planned and (k == 6 or k % max(50, steps // 8) == 0):
        bits = [max(0.3, rng.gauss(2.6, 0.5) - 1.2 * (i % 4 == 1)) for i in range(layers)]
        put("plan", step=k - 1, plan_hash=f"{rng.getrandbits(64):016x}", layers={n: "grid" for n in names})
    mean_bits = sum(b * e for b, e in zip(bits, elements)) / params
    dense += 4 * params
    sent += int(params * mean_bits / 8) + 900
    over = planned and spike and k % spike == 0
    violations += bool(over)
    budget = 0.05 * math.exp(0.1 * math.sin(k / 40)) if planned else 0.0
    error = 0.0 if codec == "none" or not planned else budget * (1.15 if over else rng.uniform(0.72, 0.9))
    loss = 1.9 + 2.4 * math.exp(-3 * (k / steps) ** 0.6) + rng.gauss(0, 0.05)
    losses.append(loss)
    wire = ms * (0.55 if codec == "none" else 0.12)
    split = [0.01, 0.25 * ms, 0.5 * ms, wire * rng.uniform(0.8, 1.2), 0.035 * ms, 0.022 * ms]
    put("step", step=k, loss=round(loss, 8), step_ms=round(sum(split), 6), **{n + "_ms": round(v, 6) for n, v in zip(("data", "forward", "backward", "wait", "optimizer", "scale"), split)},
        comm_ms=round(wire * 2.2, 6), codec_ms=round(0 if codec == "none" else 0.05 * ms, 6), plan_ms=0.2, bytes_sent=sent, bytes_dense=dense, rel_err2=error, rel_err2_metric=error,
        rel_err2_metric_low=0.93 * error, rel_err2_metric_high=1.07 * error, measured=1, budget=budget, budget_violations=violations)
    if k % max(1, steps // 120) == 0 or k == steps:
        put("layers", step=k, layers=[{"name": n, "elements": e, "codec": "none" if b == 32 else f"grid:rel={0.05 * (1 + i % 3):.3g},code=rans", "bits_per_element": round(b * rng.uniform(0.97, 1.03), 4) if b < 32 else 32.0,
                                       "rel_err2": 0.05, "rel_err2_metric": 0.05, "residual_norm2": 0.0, "bytes_sent": int(sent * e / params)} for i, (n, e, b) in enumerate(zip(names, elements, bits))])
    if k % max(1, steps // 10) == 0:
        put("eval", step=k, loss_val=round(loss + 0.03, 8), accuracy_val=0.3 + 0.2 * k / steps)
if more.get("end", "1") == "1":
    put("end", model="gpt", params=params, ranks=2, steps=steps, codec=codec, loss_first=losses[0], loss_train=sum(losses[-20:]) / len(losses[-20:]), loss_val=round(loss + 0.03, 8), accuracy_val=0.5,
        step_ms=ms, comm_ms=wire * 2.2, exposed_ms=wire, plan_ms=0.2, bytes_sent=2 * sent, bytes_dense=2 * dense, bytes_probes=0, ratio=dense / sent, rel_err2=0.043, rel_err2_metric=0.041, rel_err2_audit=0.04,
        budget=0.05 if codec == "auto" else 0.0, budgeted_err2=0.041, budget_violations=violations, plans=8, plan_hash="00", optimizer="adam", lr=0.002, seed=seed, batch=8, first_step=0, seconds=steps * ms / 1e3,
        diverged=False, identical=True, split={}, layers=[{"name": n, "elements": e, "codec": "grid:rel=0.05", "bits_per_element": b, "rel_err2": 0.05, "bytes_sent": int(2 * sent * e / params), "bytes_dense": 8 * e * steps}
                                                          for n, e, b in zip(names, elements, bits)])
