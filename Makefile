# Taut. `make help` lists the targets. Nothing is written outside build/.
#   make                     build/release/{bin/taut,lib/libtaut.so,...}
#   make MODE=debug|asan|tsan
#   make MPI=0 CUDA=0 NCCL=0 TORCH=0 BLAS=0   leave a feature out; =1 makes a missing one an error
MODE   ?= release
BUILD  ?= build/$(MODE)
PREFIX ?= /usr/local
Q      ?= @
CC     ?= cc
CXX    ?= c++
NVCC   ?= nvcc
GENCODE ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:

# ---- what is here: found / missing / off (by you) ----
probe    = $(shell mkdir -p build && printf '$(1)\nint main(void){return 0;}\n' | $(2) -o build/.probe$$$$ $(3) >/dev/null 2>&1 && echo found || echo missing; rm -f build/.probe$$$$)
feature  = $(if $(filter 0,$($(1))),off,$(if $(filter 1,$($(1))),$(if $(filter found,$(2)),found,$(error $(1)=1 was asked for but $(1) is missing: run launch/setup)),$(2)))

ARCH     := $(shell $(CC) -dumpmachine | cut -d- -f1)
PKG      := pkg-config
MPI_CFLAGS := $(shell mpicc --showme:compile 2>/dev/null || mpicc -compile_info 2>/dev/null | tr ' ' '\n' | grep '^-[ID]' | tr '\n' ' ')
MPI_LIBS   := $(shell mpicc --showme:link 2>/dev/null || mpicc -link_info 2>/dev/null | tr ' ' '\n' | grep '^-[Ll]' | tr '\n' ' ')
HAVE_MPI   := $(call feature,MPI,$(call probe,#include <mpi.h>,$(CC) -x c $(MPI_CFLAGS) -,$(MPI_LIBS)))
HAVE_CUDA  := $(call feature,CUDA,$(shell command -v $(NVCC) >/dev/null 2>&1 && echo found || echo missing))
HAVE_NCCL  := $(call feature,NCCL,$(call probe,#include <nccl.h>,$(CC) -x c -I/usr/local/cuda/include -,-L/usr/local/cuda/lib64 -lnccl))
BLAS_LIBS  := $(shell $(PKG) --libs openblas 2>/dev/null || echo -lopenblas)
BLAS_CFLAGS := $(shell $(PKG) --cflags openblas 2>/dev/null)
HAVE_BLAS  := $(call feature,BLAS,$(call probe,#include <cblas.h>,$(CC) -x c $(BLAS_CFLAGS) -,$(BLAS_LIBS)))
TORCH_DIR  ?= $(firstword $(wildcard /usr/include/torch /usr/local/include/torch))
# -idirafter: for TORCH_DIR=/usr/include/torch the parent is a system folder, whose order -isystem would change
TORCH_INC  := $(if $(TORCH_DIR),-isystem $(TORCH_DIR)/csrc/api/include -idirafter $(TORCH_DIR)/..)
TORCH_LIBS := -ltorch -ltorch_cpu -lc10
HAVE_TORCH := $(call feature,TORCH,$(if $(TORCH_DIR),found,missing))
HAVE_CHECK := $(if $(shell $(PKG) --exists check && echo y),found,missing)

# ---- flags ----
WARN     = -Wall -Wextra -Wpedantic -Wshadow -Wvla $(if $(CI),-Werror)
CWARN    = $(WARN) -Wstrict-prototypes -Wmissing-prototypes
OPT_release = -O2 -g -DNDEBUG
OPT_debug   = -O0 -g3 -DTAUT_DEBUG
OPT_asan    = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DTAUT_DEBUG
OPT_tsan    = -O1 -g -fsanitize=thread -DTAUT_DEBUG
SANITIZE = $(filter -fsanitize=%,$(OPT_$(MODE)))
CFLAGS   ?= $(OPT_$(MODE))
# same bytes on every machine: no contraction into fma, no fast-math
ALL_CFLAGS   = -std=c11 -D_GNU_SOURCE -fPIC -fvisibility=hidden -ffp-contract=off -pthread $(CWARN) $(CFLAGS)
ALL_CXXFLAGS = -std=c++17 -fPIC -fvisibility=hidden -ffp-contract=off -pthread -Wall -Wextra $(CFLAGS)
FEATURES = $(if $(filter found,$(HAVE_MPI)),-DTAUT_HAVE_MPI $(MPI_CFLAGS)) $(if $(filter found,$(HAVE_CUDA)),-DTAUT_HAVE_CUDA) \
           $(if $(filter found,$(HAVE_NCCL)),-DTAUT_HAVE_NCCL) $(if $(filter found,$(HAVE_TORCH)),-DTAUT_HAVE_TORCH) \
           $(if $(filter found,$(HAVE_BLAS)),-DTAUT_HAVE_BLAS $(BLAS_CFLAGS))
LIBS     = $(if $(filter found,$(HAVE_MPI)),$(MPI_LIBS)) $(if $(filter found,$(HAVE_BLAS)),$(BLAS_LIBS)) -lxxhash -lm -pthread
DEP      = -MMD -MP -MF $(@:.o=.d)

# ---- sources ----
no_mpi   = $(if $(filter found,$(HAVE_MPI)),$(1),$(filter-out %_mpi.c,$(1)))
isa      = $(if $(filter x86_64,$(ARCH)),$(filter-out %_neon.c,$(1)),$(if $(filter aarch64,$(ARCH)),$(filter-out %_avx2.c %_avx512.c %_avx512vbmi2.c,$(1)),$(filter-out %_avx2.c %_avx512.c %_avx512vbmi2.c %_neon.c,$(1))))
LIB_SRC  := $(call isa,$(call no_mpi,$(wildcard comm/*.c comm/*/*.c compressors/*.c compressors/*/*.c scheduler/*.c)))
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o)
CMD_SRC  := $(call no_mpi,$(wildcard launch/*.c))
CMD_OBJ  := $(CMD_SRC:%.c=$(BUILD)/%.o)
TRAIN_SRC := $(wildcard launch/train/*.c)
TRAIN_OBJ := $(TRAIN_SRC:%.c=$(BUILD)/%.o)
SHIM_SRC := $(wildcard shim/*.cpp)
SHIM_OBJ := $(SHIM_SRC:%.cpp=$(BUILD)/%.o)
TEST_SRC := $(call no_mpi,$(wildcard tests/unit/test_*.c tests/twin/test_*.c tests/golden/test_*.c tests/property/test_*.c tests/multi/test_*.c tests/long/test_*.c))
TEST_SRC := $(if $(filter found,$(HAVE_TORCH)),$(TEST_SRC),$(filter-out %_torch.c,$(TEST_SRC)))
TEST_SUP := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/support/*.c))
TEST_BIN := $(TEST_SRC:%.c=$(BUILD)/%)
BENCH_BIN := $(patsubst %.c,$(BUILD)/%,$(call no_mpi,$(wildcard tests/bench/*.c)))
SO_VERSION = 0

LIB_SO   = $(BUILD)/lib/libtaut.so
LIB_A    = $(BUILD)/lib/libtaut.a
SHIM_SO  = $(BUILD)/lib/libtaut_torch.so
CMD      = $(BUILD)/bin/taut
TRAIN    = $(BUILD)/libexec/taut-train
JSON     = -ljansson
RPATH    = -Wl,-rpath,'$$ORIGIN/../lib'

.PHONY: all
all: $(LIB_SO) $(LIB_A) $(if $(wildcard launch/taut.c),$(CMD)) $(if $(filter found,$(HAVE_TORCH)),$(if $(SHIM_SRC),$(SHIM_SO)) $(if $(TRAIN_SRC),$(TRAIN))) ## build everything that the machine has the parts for

$(BUILD)/%_avx2.o: ISA = -mavx2 -mf16c -mfma -mbmi -mbmi2 -mlzcnt -mpopcnt
ISA_avx512 = -mavx2 -mf16c -mfma -mbmi -mbmi2 -mlzcnt -mpopcnt -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd
$(BUILD)/%_avx512.o: ISA = $(ISA_avx512)
$(BUILD)/%_avx512vbmi2.o: ISA = $(ISA_avx512) -mavx512vbmi -mavx512vbmi2 -mavx512ifma -mavx512vnni -mavx512vpopcntdq -mgfni
$(BUILD)/tests/%.o: CPPFLAGS += -I.
$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(FEATURES) $(ALL_CFLAGS) $(ISA) $(DEP) -c -o $@ $<
$(BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(FEATURES) $(TORCH_INC) $(ALL_CXXFLAGS) $(DEP) -c -o $@ $<

$(LIB_SO): $(LIB_OBJ) comm/libtaut.map
	@mkdir -p $(@D)
	$(Q)$(CC) -shared $(SANITIZE) -Wl,-soname,libtaut.so.$(SO_VERSION) -Wl,--version-script=comm/libtaut.map -Wl,-z,defs -o $@.$(SO_VERSION) $(LIB_OBJ) $(LDFLAGS) $(LIBS)
	$(Q)ln -sf libtaut.so.$(SO_VERSION) $@
# one member: the SIMD tables and codecs are weak references, for which a linker would not open an archive's members
$(LIB_A): $(LIB_OBJ)
	@mkdir -p $(@D)
	$(Q)$(CC) -r -nostdlib -o $(@D)/taut.o $^ && rm -f $@ && ar rcs $@ $(@D)/taut.o
$(SHIM_SO): $(SHIM_OBJ) $(LIB_SO)
	@mkdir -p $(@D)
	$(Q)$(CXX) -shared $(SANITIZE) -Wl,-soname,libtaut_torch.so.$(SO_VERSION) -o $@.$(SO_VERSION) $(SHIM_OBJ) -L$(BUILD)/lib -ltaut $(RPATH) $(LDFLAGS) $(TORCH_LIBS)
	$(Q)ln -sf libtaut_torch.so.$(SO_VERSION) $@
# the command uses internals (kernels, codec tables), so it links the archive
$(CMD): $(CMD_OBJ) $(LIB_A)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) -o $@ $(CMD_OBJ) $(LIB_A) $(LDFLAGS) $(LIBS) $(JSON)
# taut train: a program of its own, so that nobody else loads libtorch; uses the public header only
$(TRAIN): $(TRAIN_OBJ) $(BUILD)/launch/json.o $(BUILD)/launch/cli.o $(LIB_SO) $(SHIM_SO)
	@mkdir -p $(@D)
	$(Q)$(CC) $(SANITIZE) -o $@ $(filter %.o,$^) -L$(BUILD)/lib -ltaut -ltaut_torch $(RPATH) -Wl,-rpath-link,$(BUILD)/lib $(LDFLAGS) $(LIBS) $(JSON) -lz

# ---- tests ----
# public interface only, so no test support that reaches inside
$(BUILD)/tests/%_torch: $(BUILD)/tests/%_torch.o $(SHIM_SO) $(LIB_SO)
	$(Q)$(CC) $(SANITIZE) -o $@ $(filter %.o,$^) -L$(BUILD)/lib -ltaut -ltaut_torch -Wl,-rpath,$(abspath $(BUILD)/lib) $(LDFLAGS) $(LIBS) $(shell $(PKG) --libs check)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_SUP) $(LIB_A)
	$(Q)$(CC) $(SANITIZE) -o $@ $(filter %.o,$^) $(LIB_A) $(LDFLAGS) $(LIBS) $(shell $(PKG) --libs check) $(JSON)

.PHONY: setup tests check check-long check-gpu demo bench-lab install uninstall print-config clean help
check check-long: SETUP = --tests
setup: ## install the packages that are missing (Debian, Ubuntu)
	@launch/setup $(SETUP)
tests: all $(TEST_BIN) $(BENCH_BIN)
# each stage is a make of its own, so that what setup installed is detected
check: setup ## install what is missing, build, run the tests (under ten minutes on 2 cores)
	@+$(MAKE) --no-print-directory print-config
	@+$(MAKE) --no-print-directory tests
	@BUILD=$(BUILD) tests/run.sh
check-long: setup ## check, then what takes longer: sanitizers, more ranks, longer training
	@+$(MAKE) --no-print-directory tests
	@+$(MAKE) --no-print-directory MODE=asan tests
	@BUILD=$(BUILD) LONG=1 TIMEOUT=1800 tests/run.sh
	@BUILD=build/asan LONG=1 TIMEOUT=1800 tests/run.sh
check-gpu: ## the tests that need a GPU (none yet: the CUDA codecs come next)
	@tests/run_gpu.sh
demo: setup ## train a small GPT on 2 ranks, automatic plan beside uncompressed, about two minutes
	@+$(MAKE) --no-print-directory print-config
	@+$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) launch/demo
bench-lab: setup ## measure the practice cluster; writes docs/results.md and its figures (root, about 20 minutes)
	@+$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) tests/bench/lab.sh
print-config: ## what was found, what is left out
	@printf 'mode %s  arch %s\n' '$(MODE)' '$(ARCH)'
	@printf '  %-6s %s\n' MPI $(HAVE_MPI) CUDA $(HAVE_CUDA) NCCL $(HAVE_NCCL) TORCH $(HAVE_TORCH) BLAS $(HAVE_BLAS) CHECK $(HAVE_CHECK)
	@[ $(HAVE_MPI) = found ] || echo '  left out: the MPI transport, taut bench allreduce, taut train over ranks'
	@[ $(HAVE_TORCH) = found ] || echo '  left out: taut train and the libtorch shim'
	@[ $(HAVE_BLAS) = found ] || echo '  left out: BLAS for the products of powersgd; plain C does them'
	@[ $(HAVE_CHECK) = found ] || echo '  left out: the tests'
# ---- install ----  (DESTDIR is put in front of every path and is not remembered in any file)
VERSION := $(shell awk '/^\#define TAUT_VERSION_(MAJOR|MINOR|PATCH)/{v=v s $$3; s="."} END{print v}' comm/taut.h)
INST     = $(DESTDIR)$(PREFIX)
HEADERS  = comm/taut.h $(if $(filter found,$(HAVE_MPI)),comm/taut_mpi.h)
# what install writes, below PREFIX; uninstall removes exactly this
INSTALLED = bin/taut lib/libtaut.so lib/libtaut.so.$(SO_VERSION) lib/libtaut.a lib/libtaut_torch.so \
            lib/libtaut_torch.so.$(SO_VERSION) libexec/taut-train lib/pkgconfig/taut.pc \
            include/taut.h include/taut_mpi.h include/taut_torch.h

install: all ## copy the command, libraries, headers and taut.pc below PREFIX (DESTDIR for packagers)
	install -d $(INST)/bin $(INST)/lib/pkgconfig $(INST)/include $(INST)/libexec
	install -m 755 $(CMD) $(INST)/bin/taut
	install -m 755 $(LIB_SO).$(SO_VERSION) $(INST)/lib/
	ln -sf libtaut.so.$(SO_VERSION) $(INST)/lib/libtaut.so
	install -m 644 $(LIB_A) $(INST)/lib/
	install -m 644 $(HEADERS) $(INST)/include/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@LIBS@|$(LIBS)|' comm/taut.pc.in > $(INST)/lib/pkgconfig/taut.pc
ifeq ($(HAVE_TORCH),found)
	$(if $(SHIM_SRC),install -m 755 $(SHIM_SO).$(SO_VERSION) $(INST)/lib/)
	$(if $(SHIM_SRC),ln -sf libtaut_torch.so.$(SO_VERSION) $(INST)/lib/libtaut_torch.so)
	$(if $(SHIM_SRC),sed 's|"../comm/taut.h"|"taut.h"|' shim/torch.h > $(INST)/include/taut_torch.h)
	$(if $(TRAIN_SRC),install -m 755 $(TRAIN) $(INST)/libexec/taut-train)
endif
uninstall: ## remove what install wrote
	rm -f $(addprefix $(INST)/,$(INSTALLED))
clean: ## remove build/
	rm -rf build
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
