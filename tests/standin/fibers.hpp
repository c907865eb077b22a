// How the stand-in runs kernels: one block after another, and the threads of a block in turn, each until it waits.
//
// A thread that never waits is a call. One that waits at a barrier or a shuffle keeps its stack for itself (a fiber),
// and the next one gets another. When none can go on, those go on that wait for nobody any more; if there are none, the
// kernel has diverged. Shared memory is NaN when a block begins. An address that a GPU refuses, because it is no
// multiple of what is read there, is found by -fsanitize=alignment.
#pragma once
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace standin {
constexpr size_t STACK = (64 << 10) + 5 * 64, SHARED = 227 << 10, GUARD = 1 << 10;
constexpr unsigned WARP = 32;

// -- switching stacks
#ifdef __x86_64__
asm(R"(
.text
.local standin_switch
.type standin_switch, @function
standin_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
.size standin_switch, .-standin_switch
)");
using Context = void*;
extern "C" __attribute__((visibility("hidden"))) void standin_switch(Context* from, Context* to);
inline void change(Context* from, Context* to) { standin_switch(from, to); }
inline void prepare(Context* context, char* stack, void (*entry)()) {
  void** top = reinterpret_cast<void**>(stack + STACK) - 1;  // where `entry` finds its return address
  *top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  *context = top;
}
#else
using Context = ucontext_t;
inline void change(Context* from, Context* to) { swapcontext(from, to); }
inline void prepare(Context* context, char* stack, void (*entry)()) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = STACK;
  makecontext(context, entry, 0);
}
#endif

// -- the threads of the block that runs
struct Thread {
  int fiber;
  bool done, ready;
  const char* what;           // it waits for: the same in all that wait for each other
  int line;                   // where
  unsigned mask;              // the lanes of its warp that it waits for; 0: the block
  uint64_t given;        // what it shows to the others
  dim3 at;
};

constexpr int MOST = 1024;  // threads of a block
static Thread threads[MOST];
static uint64_t shown[MOST];  // of each thread, when its warp last went on
static Context fibers[MOST];
static int idle[MOST], idles, made;  // fibers without a thread, how many these are, and how many fibers there are
static Context scheduler;
static int fiber;
static unsigned current, begun, left, in_barrier, count;  // left: have not ended; in_barrier: of the whole block
static bool descending;
static void (*body)(void*);
static void* argument;
static char message[400];

alignas(256) static unsigned char dynamic[SHARED + GUARD];
static void* poisoned[64];  // static shared memory that this block has come to
static int poisons;

inline void shared(void* at, size_t size) {
  for (int i = 0; i < poisons; ++i)
    if (poisoned[i] == at) return;
  poisoned[poisons++] = at;
  memset(at, 0xff, size);
}

inline unsigned in_order(unsigned i, unsigned n) { return descending ? n - 1 - i : i; }

static void work() {  // what each fiber does
  for (;;) {
    while (begun < count) {
      unsigned thread = in_order(begun++, count);
      if (thread < blockDim.x) threadIdx = {thread, 0, 0};
      else threadIdx = {thread % blockDim.x, thread / blockDim.x % blockDim.y, thread / blockDim.x / blockDim.y};
      current = thread;
      threads[thread] = {fiber, false, false, nullptr, 0, 0, 0, threadIdx};
      body(argument);
      threads[current].done = true, --left;
    }
    idle[idles++] = fiber;
    change(&fibers[fiber], &scheduler);
  }
}

inline void resume(int next) {
  fiber = next;
  change(&scheduler, &fibers[next]);
}

static int new_fiber() {
  static char* stacks = static_cast<char*>(
      mmap(nullptr, MOST * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  prepare(&fibers[made], stacks + STACK * made, work);
  return made++;
}

inline void fail(const char* text, unsigned a, unsigned b) {
  Thread &x = threads[a], &y = threads[b];
  snprintf(message, sizeof message, text, blockIdx.x, blockIdx.y, blockIdx.z, a, x.what, x.line, b,
           y.done ? "has ended" : y.what, y.line);
}

// Let those go on that have all come. False if nobody can.
static bool release() {
  static const char* diverged =
      "block (%u, %u, %u): thread %u waits at %s in line %d for thread %u, which is elsewhere: %s (line %d)";
  unsigned first = 0, other = count;
  bool some = false;
  while (threads[first].done) ++first;
  if (in_barrier == left) {
    in_barrier = 0;
    for (unsigned t = first; t < count; ++t)
      if (!threads[t].done && (threads[t].line != threads[first].line || threads[t].what != threads[first].what))
        return fail(diverged, first, t), false;
    for (unsigned t = 0; t < count; ++t) threads[t].ready = true;
    return true;
  }
  for (unsigned t = 0; t < count; ++t) {
    Thread& x = threads[t];
    if (x.done || x.ready || !x.mask) continue;
    unsigned base = t / WARP * WARP;
    bool complete = true;
    for (unsigned lane = 0; lane < WARP && base + lane < count; ++lane) {
      Thread& y = threads[base + lane];
      if (!(x.mask >> lane & 1) || y.done) continue;
      if (y.ready || y.mask != x.mask || y.line != x.line || y.what != x.what) {
        complete = false;
        if (other == count) first = t, other = base + lane;
      }
    }
    if (!complete) continue;
    some = true;
    for (unsigned lane = 0; lane < WARP && base + lane < count; ++lane) {
      if (!(x.mask >> lane & 1)) continue;
      shown[base + lane] = threads[base + lane].done ? ~0ull : threads[base + lane].given;
      threads[base + lane].ready = true;
    }
  }
  if (!some) fail(diverged, first, other);
  return some;
}

static bool run_block() {
  begun = in_barrier = 0;
  left = count;
  poisons = 0;
  while (begun < count) {
    resume(idles ? idle[--idles] : new_fiber());
  }
  while (left) {
    if (!release()) return false;
    for (unsigned i = 0; i < count; ++i) {
      unsigned t = in_order(i, count);
      if (threads[t].done || !threads[t].ready) continue;
      threads[t].ready = false;
      current = t, threadIdx = threads[t].at;
      resume(threads[t].fiber);
    }
  }
  return true;
}

inline void wait(const char* what, int line, unsigned mask, uint64_t given = 0) {
  Thread& me = threads[current];
  me.what = what, me.line = line, me.mask = mask, me.given = given;
  in_barrier += !mask;
  change(&fibers[fiber], &scheduler);
}

inline unsigned lane() { return current % WARP; }

// What a lane of this warp has shown; all bits are set if it did not take part.
inline uint64_t of_lane(unsigned from, unsigned mask) {
  unsigned t = current / WARP * WARP + from;
  return from < WARP && t < count && mask >> from & 1 ? shown[t] : ~0ull;
}

template <class T> T shuffle(const char* what, int line, unsigned mask, T value, unsigned from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  uint64_t word = 0;
  memcpy(&word, &value, sizeof value);
  wait(what, line, mask, word);
  word = of_lane(from, mask);
  memcpy(&value, &word, sizeof value);
  return value;
}

// 0, or what went wrong. `dims`: of grid and block, bytes of dynamic shared memory, whether in descending order.
static const char* run(const unsigned* dims, void (*kernel)(void*), void* given) {
  gridDim = {dims[0], dims[1], dims[2]};
  blockDim = {dims[3], dims[4], dims[5]};
  descending = dims[7];
  body = kernel, argument = given, count = blockDim.x * blockDim.y * blockDim.z;
  *message = 0;
  unsigned long long blocks = 1ull * gridDim.x * gridDim.y * gridDim.z;
  for (unsigned long long i = 0; i < blocks; ++i) {
    unsigned long long b = descending ? blocks - 1 - i : i;
    blockIdx = {unsigned(b % gridDim.x), unsigned(b / gridDim.x % gridDim.y), unsigned(b / gridDim.x / gridDim.y)};
    memset(dynamic, 0xff, dims[6] + (dims[6] ? GUARD : 0));
    if (!run_block()) {
      made = idles = 0;  // their stacks are used again
      return message;
    }
    if (*message) return message;
    for (unsigned at = dims[6]; dims[6] && at < dims[6] + GUARD; ++at)
      if (dynamic[at] != 0xff) {
        snprintf(message, sizeof message, "block (%u, %u, %u) writes behind its %u bytes of dynamic shared memory",
                 blockIdx.x, blockIdx.y, blockIdx.z, dims[6]);
        return message;
      }
  }
  return nullptr;
}

template <size_t... I> struct Places {};
template <class... A, size_t... I>
const char* launch(void (*kernel)(A...), const unsigned* dims, void** given, Places<I...>) {
  auto call = [=] { kernel(*static_cast<A*>(given[I])...); };
  return run(dims, [](void* made) { (*static_cast<decltype(call)*>(made))(); }, &call);
}
template <class... A> const char* launch(void (*kernel)(A...), const unsigned* dims, void** given) {
  return launch(kernel, dims, given, Places<__integer_pack(sizeof...(A))...>{});
}
template <class A> constexpr int sign = 1;
template <> constexpr int sign<float> = -1;
template <> constexpr int sign<double> = -1;
template <class... A> int sizes(void (*)(A...), int* into) {  // of parameters; below 0 for floating-point numbers
  int all[] = {static_cast<int>(sizeof(A)) * sign<A>..., 0};
  for (size_t i = 0; i < sizeof...(A); ++i) into[i] = all[i];
  return sizeof...(A);
}
}  // namespace standin

struct Mismatch {  // as GCC hands it over
  const char* file;
  unsigned line, column;
};
extern "C" __attribute__((visibility("hidden"))) void __ubsan_handle_type_mismatch_v1(Mismatch* where, void* address) {
  snprintf(standin::message, sizeof standin::message, "misaligned address %p in line %u", address, where->line);
}

// -- CUDA's words for it
inline void __syncthreads(int line = __builtin_LINE()) { standin::wait("__syncthreads", line, 0); }
inline void __syncwarp(unsigned mask = ~0u, int line = __builtin_LINE()) { standin::wait("__syncwarp", line, mask); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, int line = __builtin_LINE()) {
  unsigned lane = standin::lane(), from = lane ^ lanes;
  return standin::shuffle("__shfl_xor_sync", line, mask, value, from / width > lane / width ? lane : from);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32, int line = __builtin_LINE()) {
  unsigned lane = standin::lane();
  return standin::shuffle("__shfl_down_sync", line, mask, value, lane % width + lanes < width ? lane + lanes : lane);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32, int line = __builtin_LINE()) {
  unsigned lane = standin::lane();
  return standin::shuffle("__shfl_up_sync", line, mask, value, lane % width >= lanes ? lane - lanes : lane);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32, int line = __builtin_LINE()) {
  unsigned first = standin::lane() / width * width;
  return standin::shuffle("__shfl_sync", line, mask, value, first + static_cast<unsigned>(from) % width);
}
inline unsigned __ballot_sync(unsigned mask, int truth, int line = __builtin_LINE()) {
  standin::wait("__ballot_sync", line, mask, truth != 0);
  unsigned votes = 0;
  for (unsigned from = 0; from < 32; ++from) votes |= unsigned(standin::of_lane(from, mask) == 1) << from;
  return votes;
}
inline int __any_sync(unsigned mask, int truth, int line = __builtin_LINE()) {
  return __ballot_sync(mask, truth, line) != 0;
}
inline int __all_sync(unsigned mask, int truth, int line = __builtin_LINE()) {
  return __ballot_sync(mask, !truth, line) == 0;
}
