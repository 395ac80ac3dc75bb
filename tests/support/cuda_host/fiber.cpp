/* fiber.cpp : see fiber.h. The switch itself is a dozen instructions where the machine is known; ucontext's would make two
 * system calls each time. */
#include "fiber.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(CUDA_HOST_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char *, int);
void AnnotateIgnoreReadsEnd(const char *, int);
void AnnotateIgnoreWritesBegin(const char *, int);
void AnnotateIgnoreWritesEnd(const char *, int);
}
#endif

#if defined(__x86_64__)
__asm__(".text\n.globl cuda_host_switch\n.type cuda_host_switch,@function\ncuda_host_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
        ".size cuda_host_switch,.-cuda_host_switch\n");
enum { SAVED = 6 };
#elif defined(__aarch64__)
__asm__(".text\n.globl cuda_host_switch\n.type cuda_host_switch,%function\ncuda_host_switch:\n"
        "sub sp,sp,#176\n"
        "stp x19,x20,[sp,#0]\nstp x21,x22,[sp,#16]\nstp x23,x24,[sp,#32]\nstp x25,x26,[sp,#48]\n"
        "stp x27,x28,[sp,#64]\nstp x29,x30,[sp,#80]\n"
        "stp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
        "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
        "ldp x19,x20,[sp,#0]\nldp x21,x22,[sp,#16]\nldp x23,x24,[sp,#32]\nldp x25,x26,[sp,#48]\n"
        "ldp x27,x28,[sp,#64]\nldp x29,x30,[sp,#80]\n"
        "ldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
        "add sp,sp,#176\nret\n.size cuda_host_switch,.-cuda_host_switch\n");
#else
#error "cuda_host: a stack switch for this machine is missing: x86-64 and aarch64 have one"
#endif

extern "C" void cuda_host_switch(void **save, void *to);

namespace cuda_host
{

#if defined(__SANITIZE_ADDRESS__) || defined(CUDA_HOST_TSAN)
enum { STACK = 256 << 10 };
#else
enum { STACK = 128 << 10 };
#endif

static thread_local fiber *switching_from, *switching_to;

/* First instructions on a stack that has just been switched to. */
static void arrived()
{
#if defined(__SANITIZE_ADDRESS__)
    fiber *from = switching_from;
    __sanitizer_finish_switch_fiber(switching_to->fake, &from->below, &from->below_bytes);
#endif
}

static void begin()
{
    arrived();
    fiber *self = switching_to;
    self->entry(self->argument);
    abort();
}

void fiber_create(fiber *f, void (*entry)(void *), void *argument)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char  *map =
        (char *)mmap(nullptr, STACK + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) != 0) {
        perror("cuda_host: stack of a fiber");
        abort();
    }
    f->stack = map + page;
    f->bytes = STACK;
    f->entry = entry;
    f->argument = argument;
    uintptr_t top = ((uintptr_t)f->stack + STACK) & ~(uintptr_t)15;
#if defined(__x86_64__)
    void **sp = (void **)top;
    *--sp = nullptr; /* where begin() would return to */
    *--sp = (void *)begin;
    sp -= SAVED;
    memset(sp, 0, SAVED * sizeof *sp);
    f->sp = sp;
#else
    char *sp = (char *)top - 176;
    memset(sp, 0, 176);
    void *start = (void *)begin;
    memcpy(sp + 88, &start, sizeof start); /* x30 */
    f->sp = sp;
#endif
#if defined(CUDA_HOST_TSAN)
    f->tsan = __tsan_create_fiber(0);
#endif
}

void fiber_destroy(fiber *f)
{
    if (!f->stack) return;
#if defined(CUDA_HOST_TSAN)
    __tsan_destroy_fiber(f->tsan);
#endif
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    munmap(f->stack - page, STACK + page);
    *f = fiber();
}

void fiber_adopt(fiber *f)
{
    *f = fiber();
#if defined(CUDA_HOST_TSAN)
    f->tsan = __tsan_get_current_fiber();
#endif
}

void fiber_switch(fiber *from, fiber *to)
{
    switching_from = from;
    switching_to = to;
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom = to->stack ? to->stack : to->below;
    __sanitizer_start_switch_fiber(&from->fake, bottom, to->stack ? to->bytes : to->below_bytes);
#endif
#if defined(CUDA_HOST_TSAN)
    __tsan_switch_to_fiber(to->tsan, 1 /* no synchronisation */);
#endif
    cuda_host_switch(&from->sp, to->sp);
    arrived();
}

void fiber_release(void *token)
{
#if defined(CUDA_HOST_TSAN)
    __tsan_release(token);
#else
    (void)token;
#endif
}

void fiber_acquire(void *token)
{
#if defined(CUDA_HOST_TSAN)
    __tsan_acquire(token);
#else
    (void)token;
#endif
}

void fiber_unseen(bool yes)
{
#if defined(CUDA_HOST_TSAN)
    if (yes) AnnotateIgnoreReadsBegin(__FILE__, __LINE__), AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    else AnnotateIgnoreWritesEnd(__FILE__, __LINE__), AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
#else
    (void)yes;
#endif
}

} // namespace cuda_host
