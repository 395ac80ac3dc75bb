# Taut. `make help` lists the targets, CONTRIBUTING.md says more. Nothing is written outside build/.
#   make                              build/release/{bin/taut,lib/libtaut.so,...}
#   make MODE=debug|asan|tsan         each mode has its own folder; so have coverage and fuzz, for targets of these names
#   make MPI=0 TORCH=0 BLAS=0 ZSTD=0 JPEG=0   leave a feature out; =1 makes a missing one an error
#   make CUDA=1                       the CUDA kernels into the library (nvcc)
#   make MPICC=mpicc.mpich            another MPI
#   make TORCH=pip [PYTHON=python3]   the libtorch of a pip wheel; or TORCH_DIR=<folder of any libtorch>
MODE   ?= release
BUILD  ?= build/$(MODE)
PREFIX ?= /usr/local
Q      ?= @
CC     ?= cc
CXX    ?= c++
MPICC  ?= mpicc
NVCC   ?= nvcc
PYTHON ?= python3
PKG_CONFIG ?= pkg-config

JSON   := -ljansson

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: FORCE
FORCE:

ASAN_O     ?= -O1
# -g1: lines and functions, which reports and profiles need; all of it takes a quarter of the time of compiling
OPT_release = -O2 -g1 -DNDEBUG
OPT_debug   = -O0 -g3 -DTAUT_DEBUG
OPT_asan    = $(ASAN_O) -g1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined -DTAUT_DEBUG
OPT_tsan    = -O1 -g1 -fsanitize=thread -DTAUT_DEBUG
OPT_coverage = -O0 -g --coverage -DTAUT_DEBUG -DTAUT_COVERAGE
# libFuzzer looks at all counters after every execution, so only what a target reaches is linked: twice as many executions
OPT_fuzz    = -O2 -g -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined \
              -ffunction-sections -fsanitize-address-globals-dead-stripping
ifeq ($(OPT_$(MODE)),)
$(error MODE=$(MODE): must be release, debug, asan or tsan)
endif

# These goals need to know nothing of the machine; every other one reads below what it has.
ifneq ($(filter-out help clean setup check check-long check-sanitizers sanitized check-slurm demo bench-lab fuzz coverage dist,$(or $(MAKECMDGOALS),all)),)

# ================================================================ what is here
# launch/detect answers once; the answer is kept until a tool, its name or the installed packages change.
ASK    := CC='$(CC)' CXX='$(CXX)' MPICC='$(MPICC)' NVCC='$(NVCC)' PYTHON='$(PYTHON)' PKG_CONFIG='$(PKG_CONFIG)' \
          TORCH='$(filter pip,$(TORCH))' TORCH_DIR='$(TORCH_DIR)'
PROBES := build/probes/$(shell { echo "$(ASK) $$PATH $$PKG_CONFIG_PATH $$CPATH $$LIBRARY_PATH"; \
            stat -c '%n %Y' launch/detect /var/lib/dpkg/status; } 2>/dev/null | cksum | tr ' ' -).mk
ifeq ($(wildcard $(PROBES)),)
$(shell mkdir -p build/probes; $(ASK) launch/detect >$(PROBES).$$$$ && mv $(PROBES).$$$$ $(PROBES))
endif
include $(PROBES)

# wanted NAME: found, missing, or off (by you); asked for with =1 but missing is an error
wanted = $(if $(filter 0,$($(1))),off,$(if $(filter 1 pip,$($(1))),$(if $(filter found,$(HAVE_$(1))),found,$(error \
           $(1)=$($(1)) was asked for, but: $($(1)_INFO). launch/setup installs what Debian has)),$(HAVE_$(1))))
HAVE_MPI   := $(call wanted,MPI)
HAVE_CUDA  := $(call wanted,CUDA)
HAVE_TORCH := $(call wanted,TORCH)
HAVE_BLAS  := $(call wanted,BLAS)
HAVE_ZSTD  := $(call wanted,ZSTD)
HAVE_JPEG  := $(call wanted,JPEG)
ifeq ($(if $(TORCH_DIR),$(HAVE_TORCH)),missing)
$(error TORCH_DIR=$(TORCH_DIR): $(TORCH_INFO))
endif

# ================================================================ features
# One block each: FEATURES (flags of every C file), LIBS (of everything that links the library), EXCLUDE (sources left
# out, as patterns of filter-out), LEFT_OUT (what the user misses, for print-config).
FEATURES :=
LIBS     :=
EXCLUDE  :=
LEFT_OUT :=

# ---- MPI: files *_mpi.c ----
ifeq ($(HAVE_MPI),found)
FEATURES += -DTAUT_HAVE_MPI $(MPI_CFLAGS)
LIBS     += $(MPI_LIBS)
# the launcher that belongs to the wrapper: mpicc.mpich -> mpirun.mpich
MPIRUN   ?= $(subst mpicc,mpirun,$(MPICC))
export MPIRUN
else
EXCLUDE  += %_mpi.c
LEFT_OUT += "the MPI transport, taut bench allreduce, taut train over ranks"
endif

# ---- preload: comm/preload, for unmodified programs; *_mpi.c there is compiled once for each MPI (see its preload.h) ----
EXCLUDE  += comm/preload/%
PRELOAD_MPIS := $(if $(filter off,$(HAVE_MPI)),,$(foreach m,openmpi mpich,$(if $(PRELOAD_$(m)_CC),$(m))))
ifneq ($(filter-out $(PRELOAD_MPIS),openmpi mpich),)
LEFT_OUT += "the preload library for programs of $(filter-out $(PRELOAD_MPIS),openmpi mpich)"
endif

# ---- BLAS: the products of powersgd; opened when they are first wanted, not linked ----
ifeq ($(HAVE_BLAS),found)
FEATURES += -DTAUT_HAVE_BLAS -DTAUT_BLAS_LIBRARY='"$(BLAS_LIBRARY)"'
else
LEFT_OUT += "BLAS for the products of powersgd; plain C does them"
endif

# ---- zstd: shards, and with them all of the dataset half; libjpeg-turbo: JPEGs decoded on read ----
ifeq ($(HAVE_ZSTD),found)
FEATURES += -DTAUT_HAVE_ZSTD $(ZSTD_CFLAGS)
LIBS     += $(ZSTD_LIBS) $(JSON)
ifeq ($(HAVE_JPEG),found)
FEATURES += -DTAUT_HAVE_JPEG $(JPEG_CFLAGS)
LIBS     += $(JPEG_LIBS)
else
LEFT_OUT += "decoding JPEGs on read"
endif
else
EXCLUDE  += compressors/dataset/% launch/cmd_data% launch/data/% launch/distill/% tests/%_data.c tests/%_shard.c
LEFT_OUT += "shards, taut data and all of taut_data.h"
endif

# ---- CUDA: kernels *_cuda.cu, compiled by nvcc. Into the library only with CUDA=1, since they make it larger and its build
# longer; `make cuda` compiles them wherever nvcc is, so that they do not rot. Launchers are extern "C"; a host file that calls
# them is *_cuda.c or asks #ifdef TAUT_HAVE_CUDA. ----
ifeq ($(HAVE_CUDA)$(CUDA),found1)
CUDA_STATE := found
FEATURES += -DTAUT_HAVE_CUDA $(CUDA_CFLAGS)
LIBS     += $(CUDA_LIBS)
else
CUDA_STATE := $(if $(filter found,$(HAVE_CUDA)),unused,$(HAVE_CUDA))
EXCLUDE  += %_cuda.c %_cuda.cu
LEFT_OUT += "the CUDA kernels$(if $(filter unused,$(CUDA_STATE)),; make CUDA=1 puts them in)"
endif

# ---- libtorch: shim/ and launch/train/ ----
ifeq ($(HAVE_TORCH),found)
FEATURES += -DTAUT_HAVE_TORCH
else
EXCLUDE  += %_torch.c shim/%.cpp launch/train/%.c launch/distill/%.c
LEFT_OUT += "taut train and the libtorch shim"
endif

# ---- Check: the tests ----
ifneq ($(HAVE_CHECK),found)
EXCLUDE  += tests/%.c
LEFT_OUT += "the tests"
endif

# ---- instruction sets: each file *_ISA.c has its flags, and is left out for another architecture ----
AVX2_FLAGS   := -mavx2 -mf16c -mfma -mbmi -mbmi2 -mlzcnt -mpopcnt
AVX512_FLAGS := $(AVX2_FLAGS) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd
VBMI2_FLAGS  := $(AVX512_FLAGS) -mavx512vbmi -mavx512vbmi2 -mavx512ifma -mavx512vnni -mavx512vpopcntdq -mgfni
ifneq ($(ARCH),x86_64)
EXCLUDE += %_avx2.c %_avx512.c %_avx512vbmi2.c
endif
ifneq ($(ARCH),aarch64)
EXCLUDE += %_neon.c
endif

# ================================================================ flags
SANITIZE := $(filter -fsanitize=% --coverage,$(OPT_$(MODE)))
CFLAGS   ?= $(OPT_$(MODE))
WERROR   := $(if $(CI),-Werror)
CWARN    := -Wall -Wextra -Wpedantic -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
# same bytes on every machine: no contraction into fma, no fast-math
SAME     := -fPIC -fvisibility=hidden -ffp-contract=off -pthread
ALL_CFLAGS   = -std=c11 -D_GNU_SOURCE $(SAME) $(CWARN) $(CFLAGS)
# lines alone: to say all about the types in libtorch's headers takes the compiler longer than everything else
ALL_CXXFLAGS = -std=$(TORCH_STD) $(SAME) -Wall -Wextra $(WERROR) $(CFLAGS) $(if $(filter -g,$(CFLAGS)),-g1)
# virtual architectures of the kernels; the last also as PTX, for GPUs that come later
GENCODE ?= -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=sm_90 -gencode arch=compute_90,code=compute_90
ALL_NVCCFLAGS = -std=c++17 -O2 -lineinfo --fmad=false -Xcompiler -fPIC,-fvisibility=hidden,-ffp-contract=off,-Wall,-Wextra \
                -Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics $(GENCODE) $(NVCCFLAGS)
LIBS    += -lxxhash -lm -ldl -pthread
RPATH   := -Wl,-rpath,'$$ORIGIN/../lib'
DEP      = -MMD -MP -MF $(@:.o=.d)

# ================================================================ sources and what they become
sources  = $(filter-out $(EXCLUDE),$(wildcard $(1)))
objects  = $(addprefix $(BUILD)/,$(addsuffix .o,$(basename $(1))))
LIB_OBJ  := $(call objects,$(call sources,comm/*.c comm/*/*.c compressors/*.c compressors/*/*.c compressors/dataset/*/*.c scheduler/*.c compressors/*/*.cu comm/*/*.cu))
CMD_OBJ  := $(call objects,$(call sources,launch/*.c launch/data/*.c launch/report/*.c launch/top/*.c))
CLI_OBJ  := $(call objects,launch/json.c launch/cli.c launch/cli_files.c)
TRAIN_OBJ := $(call objects,$(call sources,launch/train/*.c))
DISTILL_OBJ := $(call objects,$(call sources,launch/distill/*.c))
# The shim in one unit: reading libtorch's headers takes six seconds of each file (twenty where TorchScript is among them), its own text less than one.
SHIM_SRC := $(call sources,shim/*.cpp)
SHIM_OBJ := $(if $(SHIM_SRC),$(BUILD)/shim/shim.o)
CUDA_OBJ := $(call objects,$(wildcard compressors/*/*.cu comm/*/*.cu))
PRELOAD_PURE := $(call objects,$(filter-out %_mpi.c %/stubs.c,$(wildcard comm/preload/*.c)))
PRELOAD_MPI  := $(wildcard comm/preload/*_mpi.c comm/transport/*_mpi.c comm/core/*_mpi.c)
PRELOAD_NCCL := $(call objects,$(wildcard comm/preload/nccl/*.c))
PRELOAD_SO   := $(BUILD)/lib/libtaut-preload-nccl.so $(BUILD)/lib/libtaut-audit-nccl.so $(if $(PRELOAD_MPIS),$(BUILD)/lib/libtaut-preload-mpi.so $(PRELOAD_MPIS:%=$(BUILD)/lib/libtaut-preload-%.so))
TEST_SUP := $(call objects,$(wildcard tests/support/*.c)) $(PRELOAD_PURE)
TEST_BIN := $(basename $(call objects,$(call sources,$(foreach d,unit twin golden property multi long,tests/$(d)/test_*.c))))
BENCH_BIN := $(basename $(call objects,$(call sources,tests/bench/*.c)))
GPU_BIN  := $(if $(filter found,$(CUDA_STATE)),$(basename $(call objects,$(wildcard tests/gpu/test_*.c))))
SO_VERSION := 0

LIB_SO   := $(BUILD)/lib/libtaut.so
LIB_A    := $(BUILD)/lib/libtaut.a
CMD      := $(BUILD)/bin/taut
SHIM_SO  := $(if $(SHIM_OBJ),$(BUILD)/lib/libtaut_torch.so)
TRAIN    := $(if $(TRAIN_OBJ),$(BUILD)/libexec/taut-train)
DISTILL  := $(if $(DISTILL_OBJ),$(BUILD)/libexec/taut-distill)

# Programs and libraries of an earlier build that this one leaves out: they would run, or be tested, with the new library.
EARLIER  := $(wildcard $(BUILD)/libexec/taut-train $(BUILD)/libexec/taut-distill $(BUILD)/lib/libtaut_torch.so $(basename $(call objects,$(wildcard tests/*/test_*.c))))
STALE    := $(filter-out $(TRAIN) $(DISTILL) $(SHIM_SO) $(TEST_BIN) $(GPU_BIN),$(EARLIER))

# Damaged checkpoints, and jobs of taut train, many in one process.
SETS     := $(BUILD)/tests/multi/checkpoint_sets $(BUILD)/tests/multi/train_jobs

.PHONY: all tests cuda prune
all: prune $(LIB_SO) $(LIB_A) $(CMD) $(SHIM_SO) $(TRAIN) $(DISTILL) $(PRELOAD_SO) ## build everything that the machine has the parts for
tests: all $(TEST_BIN) $(BENCH_BIN) $(GPU_BIN) $(if $(TRAIN),$(SETS)) ## the same, and the test programs
cuda: $(if $(filter found,$(HAVE_CUDA)),$(CUDA_OBJ)) ## compile the CUDA kernels, whether or not the library takes them in
prune:
	$(if $(STALE),rm -f $(STALE))

# ---- stamps: hold what the last build was made with, and are touched only when that changes; so `make` then `make MPI=0`
# compiles and links again what depends on it, and nothing else ----
C_TEXT    = $(CC) $(CC_INFO) $(CPPFLAGS) $(FEATURES) $(ALL_CFLAGS)
CXX_TEXT  = $(CXX) $(CXX_INFO) $(CPPFLAGS) $(FEATURES) $(TORCH_CFLAGS) $(ALL_CXXFLAGS) $(TORCH_INFO)
CUDA_TEXT = $(NVCC) $(CUDA_INFO) $(CPPFLAGS) $(ALL_NVCCFLAGS)
LINK_TEXT = $(CC) $(LDFLAGS) $(SANITIZE) $(LIBS) $(TORCH_LIBS) $(LIB_OBJ) $(CMD_OBJ) $(TRAIN_OBJ) $(DISTILL_OBJ) $(SHIM_OBJ) $(TEST_SUP)
STAMPS   := $(addprefix $(BUILD)/.,C CXX CUDA LINK)
$(shell mkdir -p $(BUILD))
$(STAMPS): FORCE
	@$(file >$@.new,$($(subst .,,$(@F))_TEXT))if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi

# ---- compile ----
$(BUILD)/%_avx2.o:       ISA := $(AVX2_FLAGS)
$(BUILD)/%_avx512.o:     ISA := $(AVX512_FLAGS)
$(BUILD)/%_avx512vbmi2.o: ISA := $(VBMI2_FLAGS)
$(BUILD)/tests/%.o:      INC := -I. $(CHECK_CFLAGS)
# test programs alone, not what they share with others: two thirds of the time of compiling; private, or .C would take the level over
$(TEST_BIN:%=%.o):      private CFLAGS := $(CFLAGS:-O2=-O1)
$(BUILD)/%.o: %.c $(BUILD)/.C
	@mkdir -p $(@D)
	$(Q)$(CC) $(INC) $(CPPFLAGS) $(FEATURES) $(ALL_CFLAGS) $(ISA) $(DEP) -c -o $@ $<
$(SHIM_OBJ): $(SHIM_SRC) $(BUILD)/.CXX
	@mkdir -p $(@D)
	@printf '#include "%s"\n' $(SHIM_SRC) >$(@:.o=.cpp)
	$(Q)$(CXX) -I. $(CPPFLAGS) $(FEATURES) $(TORCH_CFLAGS) $(ALL_CXXFLAGS) $(DEP) -c -o $@ $(@:.o=.cpp)
$(BUILD)/%.o: %.cu $(BUILD)/.CUDA
	@mkdir -p $(@D)
	$(Q)$(NVCC) $(CPPFLAGS) -DTAUT_HAVE_CUDA $(ALL_NVCCFLAGS) $(DEP) -c -o $@ $<

# ---- link ----
LINK_C   = $(Q)mkdir -p $(@D) && $(CC) $(SANITIZE) -o $@
LINK_CXX = $(Q)mkdir -p $(@D) && $(CXX) $(SANITIZE) -o $@
# two hundred test programs, each with all of the library: gold, which comes with GNU ld, takes a third of its time
TEST_LD := $(if $(filter release,$(MODE)),$(if $(GOLD),-fuse-ld=gold))
$(LIB_SO): $(LIB_OBJ) comm/libtaut.map $(BUILD)/.LINK
	$(LINK_C).$(SO_VERSION) -shared -Wl,-soname,$(@F).$(SO_VERSION) -Wl,--version-script=comm/libtaut.map -Wl,-z,defs $(LIB_OBJ) $(LDFLAGS) $(LIBS)
	$(Q)ln -sf $(@F).$(SO_VERSION) $@
# one member: the SIMD tables and codecs are weak references, for which a linker would not open an archive's members
$(LIB_A): $(LIB_OBJ) $(BUILD)/.LINK
	@mkdir -p $(@D)
	$(Q)$(CC) -r -nostdlib -o $(@D)/taut.o $(LIB_OBJ) && rm -f $@ && ar rcs $@ $(@D)/taut.o
# ---- preload: a library that knows no MPI, and a back end for each, which holds all of Taut with that MPI's transport ----
$(BUILD)/lib/libtaut-preload-mpi.so: $(BUILD)/comm/preload/stubs.o $(BUILD)/.LINK
	$(LINK_C) -shared -Wl,-soname,$(@F) $< $(LDFLAGS) -ldl -pthread
# ... and one for programs of NCCL, whose handles are pointers everywhere: it looks for NCCL behind itself
$(BUILD)/lib/libtaut-preload-nccl.so: $(PRELOAD_NCCL) $(PRELOAD_PURE) $(LIB_OBJ) comm/preload/nccl/nccl.map $(BUILD)/.LINK
	$(LINK_C) -shared -Wl,-soname,$(@F) -Wl,-z,defs -Wl,-Bsymbolic -Wl,--version-script=comm/preload/nccl/nccl.map $(filter-out %_mpi.o,$(filter %.o,$^)) \
	    $(LDFLAGS) $(filter-out $(MPI_LIBS),$(LIBS))
# ... which this one brings in where NCCL is opened by dlopen: nothing but the C library, since it lives beside the program's
$(BUILD)/lib/libtaut-audit-nccl.so: $(BUILD)/comm/preload/audit/audit_nccl.o comm/preload/audit/audit.map $(BUILD)/.LINK
	$(LINK_C) -shared -Wl,-soname,$(@F) -Wl,-z,defs -Wl,--version-script=comm/preload/audit/audit.map $< $(LDFLAGS) -ldl -pthread
define preload_backend
$(BUILD)/preload-$(1)/%.o: %.c $(BUILD)/.C
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CPPFLAGS) -DTAUT_HAVE_MPI $$(PRELOAD_$(1)_CFLAGS) $$(ALL_CFLAGS) -include comm/preload/real.h $$(DEP) -c -o $$@ $$<
$(BUILD)/lib/libtaut-preload-$(1).so: $(patsubst %.c,$(BUILD)/preload-$(1)/%.o,$(PRELOAD_MPI)) $(PRELOAD_PURE) $(LIB_OBJ) comm/libtaut.map $(BUILD)/.LINK
	$$(LINK_C) -shared -Wl,-soname,$$(@F) -Wl,-z,defs -Wl,-Bsymbolic -Wl,--version-script=comm/preload/backend.map $$(filter-out %_mpi.o,$$(LIB_OBJ)) $$(PRELOAD_PURE) \
	    $$(filter $(BUILD)/preload-$(1)/%,$$^) $$(LDFLAGS) $$(filter-out $$(MPI_LIBS),$$(LIBS)) $$(PRELOAD_$(1)_LIBS) -ldl
endef
$(foreach m,$(PRELOAD_MPIS),$(eval $(call preload_backend,$(m))))
# ---- the Python package: libtaut, one more for each MPI, and copies of the libraries that a user's machine may not have beside them; in a
# build of its own, with options that need less ----
.PHONY: python-libs wheel-libs
WHEEL    := $(BUILD)/wheel
WHEEL_SO := $(WHEEL)/libtaut.so $(PRELOAD_MPIS:%=$(WHEEL)/libtaut-%.so)
BUNDLED  := xxhash|zstd|jansson|jpeg
python-libs: ## libraries of the Python package, into build/python/wheel
	+$(Q)$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$$(nproc)) BUILD=build/python TORCH=0 BLAS=0 CUDA=0 NCCL=0 wheel-libs
wheel-libs: $(WHEEL_SO)
	$(Q)find $(WHEEL) -name '*.so.*' -delete
	$(Q)ldd $(WHEEL)/libtaut.so | awk '$$2 == "=>" && $$1 ~ /^lib($(BUNDLED))\./ { print $$1, $$3 }' | while read -r name path; do cp -Lf "$$path" "$(WHEEL)/$$name"; done
LINK_WHEEL = $(LINK_C) -shared -s -Wl,-soname,$(@F) -Wl,-z,defs -Wl,-rpath,'$$ORIGIN' -Wl,--version-script=comm/libtaut.map $(filter %.o,$^) $(LDFLAGS) \
             $(filter-out $(MPI_LIBS),$(LIBS))
$(WHEEL)/libtaut.so: $(filter-out %_mpi.o,$(LIB_OBJ)) comm/libtaut.map $(BUILD)/.LINK
	$(LINK_WHEEL)
define wheel_mpi
$(BUILD)/python-$(1)/%.o: %.c $(BUILD)/.C
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(CPPFLAGS) -DTAUT_HAVE_MPI $$(PRELOAD_$(1)_CFLAGS) $$(ALL_CFLAGS) $$(DEP) -c -o $$@ $$<
$(WHEEL)/libtaut-$(1).so: $(filter-out %_mpi.o,$(LIB_OBJ)) $(patsubst %.c,$(BUILD)/python-$(1)/%.o,$(wildcard comm/transport/*_mpi.c comm/core/*_mpi.c)) comm/libtaut.map $(BUILD)/.LINK
	$$(LINK_WHEEL) $$(PRELOAD_$(1)_LIBS)
endef
$(foreach m,$(PRELOAD_MPIS),$(eval $(call wheel_mpi,$(m))))
# the command uses internals (kernels, codec tables), so it links the archive
$(CMD): $(CMD_OBJ) $(LIB_A) $(BUILD)/.LINK
	$(LINK_C) $(CMD_OBJ) $(LIB_A) $(LDFLAGS) $(LIBS) $(JSON) -lz
ifneq ($(SHIM_SO),)
$(SHIM_SO): $(SHIM_OBJ) $(LIB_SO) $(BUILD)/.LINK
	$(LINK_CXX).$(SO_VERSION) -shared -Wl,-soname,$(@F).$(SO_VERSION) $(SHIM_OBJ) -L$(BUILD)/lib -ltaut $(RPATH) $(LDFLAGS) $(TORCH_LIBS)
	$(Q)ln -sf $(@F).$(SO_VERSION) $@
# What the shim needs of libtorch is not looked for again with every program: 1.7 s each
NO_LOOK  := -Wl,--allow-shlib-undefined
# taut train: a program of its own, so that nobody else loads libtorch; uses the public header only
$(TRAIN): $(TRAIN_OBJ) $(CLI_OBJ) $(LIB_SO) $(SHIM_SO) $(BUILD)/.LINK
	$(LINK_C) $(filter %.o,$^) -L$(BUILD)/lib -ltaut -ltaut_torch $(RPATH) $(NO_LOOK) $(LDFLAGS) $(LIBS) $(JSON) -lz
# taut data distill: the same, for images
$(DISTILL): $(DISTILL_OBJ) $(CLI_OBJ) $(LIB_SO) $(SHIM_SO) $(BUILD)/.LINK
	$(LINK_C) $(filter %.o,$^) -L$(BUILD)/lib -ltaut -ltaut_torch $(RPATH) $(NO_LOOK) $(LDFLAGS) $(LIBS) $(JSON)
# what test_checkpoint.sh, test_train.sh and test_train_data.sh run
$(SETS): %: %.o $(filter-out %/main.o,$(TRAIN_OBJ)) $(CLI_OBJ) $(LIB_SO) $(SHIM_SO) $(BUILD)/.LINK
	$(LINK_C) $(filter %.o,$^) -L$(BUILD)/lib -ltaut -ltaut_torch -Wl,-rpath,$(abspath $(BUILD)/lib) $(NO_LOOK) $(LDFLAGS) $(LIBS) $(JSON) -lz
# public interface only, so no test support that reaches inside: this does not
$(BUILD)/tests/long/test_truth_torch: $(patsubst %,$(BUILD)/tests/support/%.o,truth scene models)
$(BUILD)/tests/%_torch: $(BUILD)/tests/%_torch.o $(SHIM_SO) $(LIB_SO) $(BUILD)/.LINK
	$(LINK_C) $(filter %.o,$^) -L$(BUILD)/lib -ltaut -ltaut_torch -Wl,-rpath,$(abspath $(BUILD)/lib) $(NO_LOOK) $(LDFLAGS) $(LIBS) $(CHECK_LIBS)
endif
$(BUILD)/tests/multi/test_preload_nccl: $(PRELOAD_NCCL)
$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_SUP) $(LIB_A) $(BUILD)/.LINK
	$(LINK_C) $(TEST_LD) $(filter %.o,$^) $(LIB_A) $(LDFLAGS) $(LIBS) $(CHECK_LIBS) $(JSON) $(ALSO)

# of the fuzz targets those that read what programs in launch/ read: logs, pages, traces, files to be packed
IMPORTS   := $(call objects,launch/cli.c launch/json.c $(call sources,launch/data/import*.c launch/data/tensors.c))
FUZZ_WITH := $(call objects,launch/cli.c launch/floats.c launch/json.c $(wildcard launch/report/*.c launch/top/*.c))
$(BUILD)/tests/unit/test_fuzz_import_data $(BUILD)/sanitized/test_fuzz_import_data: $(IMPORTS)
$(BUILD)/tests/unit/test_fuzz_import_data $(BUILD)/sanitized/test_fuzz_import_data: ALSO = $(JSON) -lz
$(BUILD)/tests/unit/test_fuzz_logs: $(FUZZ_WITH)
$(BUILD)/tests/unit/test_report: $(FUZZ_WITH)
# ---- fuzz targets, in MODE=fuzz with clang ----
FUZZ_BIN := $(if $(filter fuzz,$(MODE)),$(basename $(call objects,$(call sources,tests/fuzz/fuzz_*.c))))
# A target links what it names, and those of codecs the tables of these, which are weak references; the one of shards has its file in memory.
FUZZ_ALL := $(patsubst %,$(BUILD)/tests/fuzz/fuzz_%,frame payload state step text)
FUZZ_OF  := $(filter-out $(BUILD)/compressors/dataset/%,$(filter $(BUILD)/compressors/%,$(LIB_OBJ)))
FUZZ_A   := $(BUILD)/lib/libtaut-parts.a
FUZZ_WRAP_fuzz_import := $(addprefix -Xlinker --wrap=,gzopen gzbuffer gzread gzclose gzerror stat)
FUZZ_WRAP_fuzz_shard := $(addprefix -Xlinker --wrap=,pread fstat stat aligned_alloc ZSTD_createDCtx ZSTD_freeDCtx)
# What reads saved states compares byte by byte, and the model of dense bit by bit: a third to two thirds of an execution's time was reports of comparisons, which
# patches of a good state, or a coder's bits, do not need.
$(patsubst %,$(BUILD)/%.o,compressors/dataset/dense/dense_model compressors/dataset/dense/dense_stream comm/base/base comm/core/state comm/core/state_load comm/core/sample_state $(basename $(wildcard comm/plan/*_state.c))): ISA := $(if $(filter fuzz,$(MODE)),-fno-sanitize-coverage=trace-cmp)
$(BUILD)/tests/fuzz/fuzz_shard.o $(BUILD)/tests/fuzz/fuzz_import.o: INC = -I. $(CHECK_CFLAGS) -DFUZZ_IN_MEMORY
$(FUZZ_A): $(LIB_OBJ)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)
$(FUZZ_BIN): $(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(sort $(FUZZ_WITH) $(IMPORTS)) $(FUZZ_A) $(BUILD)/.LINK
	$(LINK_C) -fsanitize=fuzzer -Wl,--gc-sections -Wl,-z,start-stop-gc $(FUZZ_WRAP_$*) $(filter %.o,$^) $(if $(filter $@,$(FUZZ_ALL)),$(FUZZ_OF)) $(FUZZ_A) $(LDFLAGS) $(LIBS) $(JSON) -lz
.PHONY: fuzz-targets
fuzz-targets: $(FUZZ_BIN)

# ---- the sanitized tier of `make check`: what reads foreign bytes, in MODE=asan, of no more of the library than it needs ----
SANITIZED     := $(BUILD)/sanitized/test_fuzz_frames $(if $(filter found,$(HAVE_ZSTD)),$(patsubst %,$(BUILD)/sanitized/%,test_fuzz_shard \
                   test_fuzz_plan_data test_fuzz_foreign_data test_fuzz_import_data test_damage_texts_data))
SANITIZED_OBJ := $(filter $(BUILD)/compressors/% $(BUILD)/comm/base/% $(BUILD)/scheduler/budget.o $(BUILD)/scheduler/time_model.o,$(LIB_OBJ)) $(BUILD)/tests/support/codec_case.o
# it runs where it is built: no kernels that this processor would not run, where it says what it has
SANITIZED_OBJ := $(filter-out $(if $(wildcard /proc/cpuinfo),$(if $(shell grep -m 1 avx512f /proc/cpuinfo),,%_avx512.o %_avx512vbmi2.o)),$(SANITIZED_OBJ))
SANITIZED_OBJ := $(filter-out $(foreach d,export loader sampler select,$(BUILD)/compressors/dataset/$(d)/%),$(SANITIZED_OBJ)) # which read nothing foreign
$(SANITIZED): $(BUILD)/sanitized/%: $(BUILD)/tests/unit/%.o $(SANITIZED_OBJ) $(BUILD)/.LINK
	$(LINK_C) $(filter %.o,$^) $(LDFLAGS) $(LIBS) $(CHECK_LIBS) $(ALSO)
.PHONY: sanitized-tests
sanitized-tests: $(SANITIZED)

# ---- CUDA kernels on the CPU: the .cu sources a second time, by the C++ compiler, against the execution model in
# tests/support/cuda_host, so that `make check` runs every kernel without a GPU. A misaligned access traps in every mode. The
# model itself is not instrumented by TSan. ----
MODEL       := tests/support/cuda_host
MODEL_OBJ   := $(patsubst %,$(BUILD)/model/%.o,$(basename $(wildcard compressors/*/*_cuda.cu $(MODEL)/*.cu)))
MODEL_RUN   := $(patsubst %,$(BUILD)/model/%.o,$(basename $(wildcard $(MODEL)/*.cpp)))
MODEL_TESTS := $(filter $(foreach d,unit twin long,$(BUILD)/tests/$(d)/test_cuda_%),$(TEST_BIN))
MODEL_FLAGS  = -x c++ -std=c++17 $(SAME) -Wall -Wextra -Wno-unknown-pragmas $(WERROR) -I. -I$(MODEL)/include
TRAP         = $(shell $(CXX) -fsanitize=alignment -fsanitize-trap=alignment -x c++ -c -o /dev/null /dev/null 2>/dev/null && \
                 echo -fsanitize-trap=alignment || echo -fsanitize-undefined-trap-on-error)
MODEL_TRAP  := $(if $(MODEL_TESTS),$(if $(filter asan,$(MODE)),,-fsanitize=alignment $(TRAP)))
# -O1 compiles in two thirds of the time; the tests of the kernels take as long
$(MODEL_OBJ): $(BUILD)/model/%.o: %.cu $(BUILD)/.CXX
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(MODEL_FLAGS) $(CFLAGS:-O2=-O1) $(MODEL_TRAP) $(DEP) -c -o $@ $<
$(MODEL_RUN): $(BUILD)/model/%.o: %.cpp $(BUILD)/.CXX
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(MODEL_FLAGS) $(filter-out -fsanitize=thread,$(CFLAGS)) $(if $(filter tsan,$(MODE)),-DCUDA_HOST_TSAN) $(DEP) -c -o $@ $<
$(MODEL_TESTS): $(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_SUP) $(LIB_A) $(MODEL_OBJ) $(MODEL_RUN) $(BUILD)/.LINK
	$(LINK_CXX) $(TEST_LD) $(filter %.o,$^) $(LIB_A) $(LDFLAGS) $(LIBS) $(CHECK_LIBS) $(JSON)
# ... a third time for counting what they read and write: with the calls that TSan would put before loads and stores, and a main() that has these
TRAFFIC     := $(BUILD)/tests/bench/cuda_traffic
TRAFFIC_OBJ := $(patsubst %,$(BUILD)/traffic/%.o,$(basename $(wildcard compressors/*/*_cuda.cu)))
$(TRAFFIC_OBJ): $(BUILD)/traffic/%.o: %.cu $(BUILD)/.CXX
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(MODEL_FLAGS) -O1 -g -fsanitize=thread $(DEP) -c -o $@ $<
$(TRAFFIC).o: tests/bench/cuda_traffic.cpp $(BUILD)/.CXX
	@mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(MODEL_FLAGS) $(CFLAGS) $(DEP) -c -o $@ $<
$(TRAFFIC): $(TRAFFIC).o $(TRAFFIC_OBJ) $(BUILD)/model/$(MODEL)/control.o $(MODEL_RUN) $(LIB_A) $(BUILD)/.LINK
	$(LINK_CXX) $(filter %.o,$^) $(LIB_A) $(LDFLAGS) $(LIBS)
cuda-traffic: $(TRAFFIC) ## bytes of device memory that each kernel reads and writes, beside the least possible
	@$(TRAFFIC)
cuda-report: ## registers, shared memory and spills of every kernel, per GPU architecture
	@NVCC='$(NVCC)' NVCCFLAGS='$(filter-out -lineinfo,$(ALL_NVCCFLAGS))' tests/bench/cuda_report.sh compressors/*/*_cuda.cu
gpu-tests: $(MODEL_TESTS)
# what check-gpu runs besides: layers by NCCL's double, and a step in a graph by NCCL itself
GPU_DOUBLES := $(filter $(BUILD)/tests/multi/test_nccl% $(BUILD)/tests/multi/test_preload_nccl $(BUILD)/tests/multi/test_staging,$(TEST_BIN))
gpu-doubles: $(GPU_DOUBLES) $(filter %/graph_mpi,$(BENCH_BIN))
.PHONY: cuda-report cuda-traffic gpu-tests gpu-doubles

# ---- one test: T=comm is tests/*/test_comm.c or .sh, or both; T='grid quant' takes two ----
.PHONY: test quick
TESTS_OF_T := $(foreach t,$(T),$(wildcard tests/*/test_$(t).c tests/*/test_$(t).sh))
test: $(if $(filter %.sh,$(TESTS_OF_T)),all) $(if $(filter %/test_checkpoint.sh %/test_train.sh %/test_train_data.sh,$(TESTS_OF_T)),$(SETS)) $(filter $(basename $(call objects,$(TESTS_OF_T))),$(TEST_BIN)) ## one test: make test T=comm
	@[ -n '$(TESTS_OF_T)' ] || { echo "make test T=NAME: no tests/*/test_$(T).c or .sh; there are:"; \
	    ls tests/*/test_*.c tests/*/test_*.sh | sed 's|.*/test_||; s|\.[a-z]*$$||' | sort -u | fmt -w 110; exit 2; }
	@LONG=1 BUILD=$(BUILD) tests/run.sh $(addsuffix $$,$(basename $(TESTS_OF_T))) $(filter %.sh,$(TESTS_OF_T))
# the tests that need neither MPI nor libtorch nor a second to think
QUICK := $(filter $(foreach d,unit golden property twin,$(BUILD)/tests/$(d)/%),$(TEST_BIN)) $(BUILD)/tests/multi/test_comm
QUICK := $(filter-out %_torch,$(QUICK))
quick: $(CMD) $(LIB_SO) $(QUICK) ## the quick tests, in under a minute
	@BUILD=$(BUILD) tests/run.sh $(addsuffix $$,$(QUICK))

.PHONY: run-tests print-config
run-tests: tests
	@BUILD=$(BUILD) $(if $(LONG),LONG=$(LONG)) $(if $(TIMEOUT),TIMEOUT=$(TIMEOUT)) tests/run.sh
print-config: ## what was found, what is left out
	@printf 'mode %s  arch %s  %s\n' '$(MODE)' '$(ARCH)' '$(CC_INFO)'
	@printf '  %-6s %-8s %s\n' MPI '$(HAVE_MPI)' '$(MPI_INFO)' CUDA '$(CUDA_STATE)' '$(CUDA_INFO)' \
	    TORCH '$(HAVE_TORCH)' '$(TORCH_INFO)' BLAS '$(HAVE_BLAS)' '$(BLAS_INFO)' ZSTD '$(HAVE_ZSTD)' '$(ZSTD_INFO)' JPEG '$(HAVE_JPEG)' '$(JPEG_INFO)' CHECK '$(HAVE_CHECK)' '$(CHECK_INFO)'
	@for text in $(LEFT_OUT); do echo "  left out: $$text"; done

# ================================================================ lint
# clang-tidy (.clang-tidy) file by file, again where something that it includes has changed; then cppcheck over all (tests/cppcheck.supp).
.PHONY: lint
LINT_SRC  := $(filter-out %_neon.c %_cuda.c,$(call sources,comm/*/*.c compressors/*.c compressors/*/*.c compressors/dataset/*/*.c scheduler/*.c launch/*.c launch/*/*.c) \
             $(filter-out %_mpi.c,$(wildcard comm/preload/*.c comm/preload/*/*.c)) $(if $(PRELOAD_MPIS),$(wildcard comm/preload/*_mpi.c)))
LINT_TIDY := $(LINT_SRC:%.c=$(BUILD)/lint/%.tidy)
LINT_ISA   = $(if $(filter %_avx2.c,$<),$(AVX2_FLAGS),$(if $(filter %_avx512.c,$<),$(AVX512_FLAGS),$(if $(filter %_avx512vbmi2.c,$<),$(VBMI2_FLAGS))))
$(BUILD)/lint/%.tidy: %.c $(BUILD)/%.o .clang-tidy
	@mkdir -p $(@D)
	$(Q)clang-tidy --quiet $< -- -std=c11 -D_GNU_SOURCE $(CPPFLAGS) $(FEATURES) $(LINT_ISA) >$@.said 2>/dev/null || { cat $@.said; exit 1; }
	@mv $@.said $@
# without git, of an archive: all there are
FORMATTED = $(or $(shell git ls-files '*.c' '*.h' '*.cpp' '*.cu' '*.cuh' '*.hpp' 2>/dev/null),$(shell find comm compressors launch scheduler shim tests -name '*.[ch]' -o -name '*.[ch]pp' -o -name '*.cu' -o -name '*.cuh'))
.PHONY: format check-format
format: ## clang-format over every source, in place
	$(Q)clang-format -i $(FORMATTED)
check-format:
	$(Q)clang-format --dry-run -Werror $(FORMATTED)
lint: check-format $(LINT_TIDY) ## clang-format, clang-tidy and cppcheck: no findings
	@mkdir -p $(BUILD)/lint/cppcheck
	$(Q)cppcheck -q -j$$(nproc) --std=c11 --enable=warning,performance,portability --inline-suppr --suppressions-list=tests/cppcheck.supp --error-exitcode=1 \
	    --cppcheck-build-dir=$(BUILD)/lint/cppcheck -D_GNU_SOURCE -D__GNUC__=12 -D'ElfW(type)=Elf64_##type' $(filter -DTAUT%,$(FEATURES)) $(LINT_SRC)
	@echo "lint: $(words $(LINT_SRC)) files, nothing found"

# ================================================================ install
# DESTDIR is put in front of every path and is not remembered in any file.
.PHONY: install uninstall
VERSION := $(shell awk '/^\#define TAUT_VERSION_(MAJOR|MINOR|PATCH)/{v=v s $$3; s="."} END{print v}' comm/taut.h)
INST     = $(DESTDIR)$(PREFIX)
# a space would make two names of one, and uninstall would remove what the first one names
ifneq ($(filter install uninstall deb,$(MAKECMDGOALS)),)
ifneq ($(words x$(DESTDIR)x$(PREFIX)x),1)
$(error DESTDIR=$(DESTDIR) PREFIX=$(PREFIX): must be without spaces)
endif
ifneq ($(filter-out /%,$(PREFIX)),)
$(error PREFIX=$(PREFIX): must be an absolute path: taut.pc and the module file name it)
endif
endif
# `sudo make install` where sudo's PATH has not the MPI that the build was made with would build anew, without
GONE := $(if $(filter install,$(MAKECMDGOALS)),$(foreach f,MPI TORCH ZSTD,$(if $(filter missing,$(HAVE_$(f))),$(shell grep -qs -e '-DTAUT_HAVE_$(f)\b' $(BUILD)/.C && echo $(f)))))
ifneq ($(strip $(GONE)),)
$(error $(BUILD) was made with $(strip $(GONE)), which is not found now: is PATH another one, as below sudo (sudo env PATH=$$PATH make install)? $(firstword $(GONE))=0 installs without)
endif
DOCS     = README.md CHANGELOG.md $(wildcard docs/*.md docs/*.json docs/*.svg)
HEADERS  = comm/taut.h comm/taut_nccl.h comm/taut_tcp.h $(if $(filter found,$(HAVE_MPI)),comm/taut_mpi.h) \
           $(if $(filter found,$(HAVE_ZSTD)),comm/taut_data.h $(if $(filter found,$(HAVE_MPI)),comm/taut_data_mpi.h))
# what install writes, below PREFIX; uninstall removes exactly this
INSTALLED = bin/taut lib/libtaut.so lib/libtaut.so.$(SO_VERSION) lib/libtaut.a lib/libtaut_torch.so \
            lib/libtaut_torch.so.$(SO_VERSION) libexec/taut-train libexec/taut-distill lib/pkgconfig/taut.pc \
            include/taut.h include/taut_nccl.h include/taut_tcp.h include/taut_mpi.h include/taut_data.h include/taut_data_mpi.h include/taut_torch.h \
            bin/tautrun $(addprefix lib/,$(notdir $(PRELOAD_SO))) share/bash-completion/completions/taut share/bash-completion/completions/tautrun \
            share/man/man1/taut.1.gz share/man/man1/taut-*.1.gz share/man/man1/tautrun.1.gz share/doc/taut $(addprefix bin/,$(BATCH_TOOLS)) \
             $(addprefix share/taut/slurm/,$(notdir $(BATCH_SCRIPTS))) share/taut/modulefiles/taut/$(VERSION)
BATCH_SCRIPTS = $(wildcard launch/slurm/*.sbatch)
BATCH_TOOLS   = taut-requeue taut-torchrun taut-sweep
# programs find the library by the path that taut.pc gives them, except in the folders that the loader searches anyway
PC_RPATH = $(if $(filter /usr /,$(PREFIX)),,-Wl,-rpath,$${libdir})

# ---- man pages and completion, from --help ----
MANUAL := $(BUILD)/manual
ifeq ($(shell command -v help2man),)
LEFT_OUT += "man pages (help2man)"
endif
$(MANUAL)/taut.bash: launch/manual launch/tautrun $(CMD) $(TRAIN) $(DISTILL)
	$(Q)rm -rf $(MANUAL) && launch/manual $(CMD) '$(if $(PRELOAD_SO),launch/tautrun)' $(MANUAL) $(VERSION)
manual: $(MANUAL)/taut.bash ## man pages and bash completion, made from --help
.PHONY: manual

install: all manual ## copy the command, libraries, headers, man pages and taut.pc below PREFIX (DESTDIR for packagers)
	install -d $(INST)/bin $(INST)/lib/pkgconfig $(INST)/include $(INST)/libexec
	install -m 755 $(CMD) $(INST)/bin/taut
	install -m 755 $(LIB_SO).$(SO_VERSION) $(INST)/lib/
	ln -sf libtaut.so.$(SO_VERSION) $(INST)/lib/libtaut.so
	install -m 644 $(LIB_A) $(INST)/lib/
	install -m 755 $(PRELOAD_SO) $(INST)/lib/
	$(if $(PRELOAD_MPIS),install -m 755 launch/tautrun $(INST)/bin/)
	install -m 644 $(HEADERS) $(INST)/include/
	install -d $(INST)/share/bash-completion/completions $(INST)/share/doc/taut $(INST)/share/man/man1
	install -m 644 $(MANUAL)/taut.bash $(INST)/share/bash-completion/completions/taut
	ln -sf taut $(INST)/share/bash-completion/completions/tautrun
	install -m 644 $(DOCS) $(INST)/share/doc/taut/
	$(if $(wildcard $(MANUAL)/*.1),install -m 644 $(MANUAL)/*.1 $(INST)/share/man/man1/ && gzip -9nf $(INST)/share/man/man1/taut*.1)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' -e 's|@RPATH@|$(PC_RPATH)|' -e 's|@LIBS@|$(LIBS)|' \
	    comm/taut.pc.in > $(INST)/lib/pkgconfig/taut.pc && chmod 644 $(INST)/lib/pkgconfig/taut.pc
	install -d $(INST)/share/taut/slurm $(INST)/share/taut/modulefiles/taut
	install -m 644 $(BATCH_SCRIPTS) $(INST)/share/taut/slurm/
	install -m 755 $(addprefix launch/slurm/,$(BATCH_TOOLS)) $(INST)/bin/
	sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@VERSION@|$(VERSION)|g' launch/slurm/module > $(INST)/share/taut/modulefiles/taut/$(VERSION) && chmod 644 $(INST)/share/taut/modulefiles/taut/$(VERSION)
ifneq ($(SHIM_SO),)
	install -m 755 $(SHIM_SO).$(SO_VERSION) $(INST)/lib/
	ln -sf libtaut_torch.so.$(SO_VERSION) $(INST)/lib/libtaut_torch.so
	sed 's|"../comm/taut.h"|"taut.h"|' shim/torch.h > $(INST)/include/taut_torch.h && chmod 644 $(INST)/include/taut_torch.h
	install -m 755 $(TRAIN) $(DISTILL) $(INST)/libexec/
endif
	@launch/installed '$(DESTDIR)' '$(PREFIX)'
uninstall: ## remove what install wrote
	rm -rf $(addprefix $(INST)/,$(INSTALLED))

.PHONY: deb
deb: all manual ## Debian packages in build/deb: libtaut0, libtaut-dev, taut-tools
	$(Q)rm -rf build/deb && $(MAKE) --no-print-directory install DESTDIR=build/deb/tree PREFIX=/usr >build/deb.log || { cat build/deb.log; exit 1; }
	@launch/deb build/deb/tree build/deb $(VERSION) $(SO_VERSION)
	$(Q)rm -rf build/deb/tree build/deb.log

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
endif # goals that need the machine

# ================================================================ stages
# Each is a make of its own, so that what setup installed is detected.
.PHONY: setup check check-long check-sanitizers sanitized check-slurm check-gpu demo bench-lab clean help fuzz coverage dist
# As many compilers as processors, unless this make was told a number.
STAGE = @+$(MAKE) --no-print-directory $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$$(nproc))
check: SETUP := --tests
check-long: SETUP := --long
setup: ## install the packages that are missing (Debian, Ubuntu)
	@launch/setup $(SETUP)
	@[ -f /var/lib/dpkg/status ] || rm -rf build/probes
check: setup ## install what is missing, build, run the tests (some minutes: docs/results.md)
	$(STAGE) print-config
	$(STAGE) run-tests
check-long: setup ## check, then what takes longer: sanitizers, more ranks, longer training
	$(STAGE) LONG=1 TIMEOUT=1800 run-tests
	$(STAGE) LONG=1 TIMEOUT=1800 MODE=asan run-tests
	$(STAGE) MODE=tsan TORCH=0 tests
	@MODE=tsan tests/sanitize.sh
# not optimised: compiling takes a quarter of the time, and nearly all of it was compiling
sanitized: ## what reads foreign bytes under ASan and UBSan: the fuzzers' corpora, damaged; the codecs of fields. Part of check
	$(STAGE) MODE=asan ASAN_O=-O0 BUILD=build/sanitized MPI=0 TORCH=0 BLAS=0 CUDA=0 sanitized-tests
	@tests/sanitized.sh build/sanitized/sanitized/test_*
check-sanitizers: SETUP := --tests
check-sanitizers: setup ## the tests' C programs under ASan and UBSan, then those with threads under TSan; a table of what ran and what was found
	$(STAGE) MODE=asan TORCH=0 tests
	$(STAGE) MODE=tsan TORCH=0 tests
	@rc=0; rm -f build/asan/threads; for mode in asan tsan; do MODE=$$mode THREADS=build/asan/threads tests/sanitize.sh $(T) || rc=1; done; exit $$rc
check-slurm: SETUP := --long
check-slurm: setup ## the batch scripts in a real Slurm, started for it on this machine (root; about three minutes)
	$(STAGE) all $(BUILD)/tests/bench/steps_mpi
	@LONG=1 TIMEOUT=3600 BUILD=$(BUILD) tests/run.sh test_slurm test_preload_slurm
GPU_HERE := $(if $(filter check-gpu,$(MAKECMDGOALS)),$(if $(shell nvidia-smi -L 2>/dev/null | grep '^GPU '),1,0))
# a libtorch with CUDA and its headers, in python's package, where none is asked for
GPU_TORCH := $(if $(filter 1,$(GPU_HERE)),$(if $(TORCH)$(TORCH_DIR),,$(shell d=$$($(or $(PYTHON),python3) -c \
    'import importlib.util as u; print(u.find_spec("torch").submodule_search_locations[0])' 2>/dev/null) && \
    [ -f "$$d/lib/libtorch_cuda.so" ] && [ -d "$$d/include/torch/csrc" ] && echo TORCH=pip)))
check-gpu: ## on a machine with a GPU: kernels against the CPU, sanitizers, allreduces by MPI and NCCL, a graph, training, speeds; one JSON report, under ten minutes; without: what doubles can
	$(STAGE) CUDA=$(GPU_HERE) $(GPU_TORCH) BUILD=build/gpu all
	$(STAGE) CUDA=$(GPU_HERE) $(GPU_TORCH) BUILD=build/gpu gpu-tests gpu-doubles
	@BUILD=build/gpu MPIRUN='$(or $(MPIRUN),$(subst mpicc,mpirun,$(MPICC)))' tests/run_gpu.sh
demo: setup ## train a small GPT on 2 ranks, automatic plan beside uncompressed, about two minutes
	$(STAGE) print-config
	$(STAGE) all
	@BUILD=$(BUILD) MPIRUN='$(or $(MPIRUN),$(subst mpicc,mpirun,$(MPICC)))' launch/demo
bench-lab: setup ## measure the practice cluster; writes docs/results.md and its figures (root, about 20 minutes)
	$(STAGE) all
	@BUILD=$(BUILD) tests/bench/lab.sh
fuzz: ## attack every reader of foreign bytes with libFuzzer (clang): make fuzz SECONDS=60 T='frame state'
	$(STAGE) MODE=fuzz CC='$(or $(CLANG),clang)' MPI=0 TORCH=0 JPEG=0 fuzz-targets
	@BUILD=build/fuzz tests/fuzz/run.sh $(or $(SECONDS),60) $(T)
coverage: ## lines that the tests execute, by folder, with gcovr; build/coverage/lines.html
	$(STAGE) MODE=coverage TORCH=0 tests
	@BUILD=build/coverage tests/coverage.sh $(T)
dist: ## build/dist/taut-VERSION.tar.xz, of what is committed
	@launch/dist
clean: ## remove build/
	rm -rf build
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
