// The part of cuBLASLt that the library calls, on the host's memory: functions of cublasLt.h, as strict as they are.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

enum Status { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 };
enum Compute { C_32F = 68, C_64F = 70, C_TF32 = 77 };
enum Epilogue { DEFAULT = 1, BIAS = 4 };

struct Layout {
    int32_t type;
    uint64_t rows, cols;
    int64_t ld;
    int32_t batch = 1;
    int64_t stride = 0;
};
struct Desc {
    int32_t compute, scale, pointers = 0, transposed[2] = {0, 0};
    uint32_t epilogue = DEFAULT;
    const void* bias = nullptr;
};
struct Preference {
    uint64_t workspace = 0;
    uint32_t reduction = 7, alignment[4] = {256, 256, 256, 256};
};
struct Algo {  // cublasLtMatmulAlgo_t: 64 bytes
    uint64_t problem, workspace;
    uint32_t alignment[4];
    uint64_t unused[4];
};
struct Found {  // cublasLtMatmulHeuristicResult_t
    Algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};
static_assert(sizeof(Algo) == 64 && sizeof(Found) == 96);

struct Product {
    Desc desc;
    Layout a, b, c, d;
};
struct Job : Product {
    double alpha, beta;
    const void *alphas, *betas;  // where pointers are the device's
    const char *A, *B, *C;
    char* D;
};

extern "C" {
long long standin_no_algorithm = -1, standin_no_epilogue = -1;  // for products of so many terms
long long standin_calls = 0;
int (*standin_hook)(Job*, void*) = nullptr;  // takes a job over, or not
}

static int size_of(int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }

static double load(int type, const void* at) {
    if (type == R_64F) return *static_cast<const double*>(at);
    if (type == R_32F) return *static_cast<const float*>(at);
    if (type == R_16F) return static_cast<float>(*static_cast<const _Float16*>(at));
    uint32_t bits = uint32_t(*static_cast<const uint16_t*>(at)) << 16;
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

static void store(int type, void* at, double x) {
    if (type == R_64F) *static_cast<double*>(at) = x;
    if (type == R_32F) *static_cast<float*>(at) = static_cast<float>(x);
    if (type == R_16F) *static_cast<_Float16*>(at) = static_cast<_Float16>(static_cast<float>(x));
    if (type == R_16BF) {
        float value = static_cast<float>(x);
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        bits = value != value ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
        *static_cast<uint16_t*>(at) = static_cast<uint16_t>(bits >> 16);
    }
}

static float tf32(float x) {  // to 10 bits, ties away from 0, as cvt.rna.tf32 does
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x1000) & 0xffffe000;
    std::memcpy(&x, &bits, 4);
    return x;
}

// op(x) of matrix i, as `lines` lines of `terms` terms where `by_line`, else the other way round.
template <typename T>
static std::vector<T> packed(const Layout& x, const char* at, int i, bool transposed, bool rows_are_lines, bool by_line,
                             bool round) {
    bool as_columns = rows_are_lines == transposed;  // a line is a column of x
    uint64_t lines = as_columns ? x.cols : x.rows, terms = as_columns ? x.rows : x.cols;
    std::vector<T> out(lines * terms);
    for (uint64_t line = 0; line < lines; line++)
        for (uint64_t term = 0; term < terms; term++) {
            int64_t row = as_columns ? term : line, col = as_columns ? line : term;
            T v = static_cast<T>(load(x.type, at + (i * x.stride + col * x.ld + row) * size_of(x.type)));
            out[by_line ? line * terms + term : term * lines + line] = round ? static_cast<T>(tf32(v)) : v;
        }
    return out;
}

template <typename T>
static void multiply(const Job& job) {
    bool round = job.desc.compute == C_TF32;
    uint64_t m = job.d.rows, n = job.d.cols, k = job.desc.transposed[0] ? job.a.rows : job.a.cols;
    T alpha = static_cast<T>(job.alphas ? load(job.desc.scale, job.alphas) : job.alpha);
    T beta = static_cast<T>(job.betas ? load(job.desc.scale, job.betas) : job.beta);
    int size = size_of(job.d.type);
    std::vector<T> sums(m);
    for (int i = 0; i < job.d.batch; i++) {
        auto a = packed<T>(job.a, job.A, i, job.desc.transposed[0], true, false, round);
        auto b = packed<T>(job.b, job.B, i, job.desc.transposed[1], false, true, round);
        for (uint64_t col = 0; col < n; col++) {
            std::fill(sums.begin(), sums.end(), T(0));
            for (uint64_t term = 0; term < k; term++) {
                T factor = b[col * k + term];
                const T* line = &a[term * m];
                for (uint64_t row = 0; row < m; row++) sums[row] += line[row] * factor;
            }
            for (uint64_t row = 0; row < m; row++) {
                int64_t at = i * job.d.stride + col * job.d.ld + row;
                T value = alpha * sums[row];
                int64_t from = i * job.c.stride + col * job.c.ld + row;
                const char* bias = static_cast<const char*>(job.desc.bias) + row * size;
                if (beta != 0) value += beta * static_cast<T>(load(job.c.type, job.C + from * size));
                if (job.desc.epilogue & BIAS) value += static_cast<T>(load(job.d.type, bias));
                store(job.d.type, job.D + at * size, value);
            }
        }
    }
}

static bool legal(const Layout& x) {
    bool known = x.type == R_32F || x.type == R_64F || x.type == R_16F || x.type == R_16BF;
    return known && x.rows > 0 && x.cols > 0 && x.ld >= static_cast<int64_t>(x.rows) && x.batch > 0 && x.stride >= 0;
}

static int judged(const Product& p) {
    for (const Layout* x : {&p.a, &p.b, &p.c, &p.d})
        if (!legal(*x) || x->batch != p.d.batch) return INVALID_VALUE;
    uint64_t k = p.desc.transposed[0] ? p.a.rows : p.a.cols;
    uint64_t m = p.desc.transposed[0] ? p.a.cols : p.a.rows, n = p.desc.transposed[1] ? p.b.rows : p.b.cols;
    bool fits = m == p.d.rows && n == p.d.cols && (p.desc.transposed[1] ? p.b.cols : p.b.rows) == k;
    fits = fits && p.c.rows == m && p.c.cols == n && p.c.type == p.d.type;
    if (!fits || p.d.stride < (p.d.batch > 1 ? p.d.ld * static_cast<int64_t>(p.d.cols) : 0)) return INVALID_VALUE;
    bool in_64 = p.a.type == R_64F;
    bool types = p.a.type == p.b.type && (p.d.type == p.a.type || (p.d.type == R_32F && size_of(p.a.type) == 2));
    bool in_32 = p.desc.compute == C_32F || (p.desc.compute == C_TF32 && p.a.type == R_32F);
    bool computed = p.desc.scale == (in_64 ? R_64F : R_32F) && (in_64 ? p.desc.compute == C_64F : in_32);
    return types && computed ? SUCCESS : NOT_SUPPORTED;
}

static uint64_t key_of(const Product& p) {  // of all but the epilogue
    uint64_t key = 0xcbf29ce484222325;
    auto add = [&](uint64_t x) { key = (key ^ x) * 0x100000001b3; };
    add(p.desc.compute), add(p.desc.scale), add(p.desc.transposed[0]), add(p.desc.transposed[1]);
    for (const Layout* x : {&p.a, &p.b, &p.d}) {
        add(x->type), add(x->rows), add(x->cols), add(x->ld), add(x->batch), add(x->stride);
    }
    return key | 1;
}

static Product product_of(const Desc* desc, const Layout* a, const Layout* b, const Layout* c, const Layout* d) {
    return {*desc, *a, *b, *c, *d};
}

template <typename T>
static int put(T& to, const void* from, size_t size) {
    if (!from || size != sizeof(T)) return INVALID_VALUE;
    std::memcpy(&to, from, size);
    return SUCCESS;
}

static int handles = 0;
extern "C" {
const char* cublasLtGetStatusName(int status) {
    return status == SUCCESS         ? "CUBLAS_STATUS_SUCCESS"
           : status == INVALID_VALUE ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                     : "CUBLAS_STATUS_INTERNAL_ERROR";
}
int cublasLtCreate(void** handle) { return *handle = new int(++handles), SUCCESS; }

int cublasLtMatmulDescCreate(Desc** desc, int compute, int scale) {
    *desc = new Desc();
    (*desc)->compute = compute, (*desc)->scale = scale;
    return SUCCESS;
}
int cublasLtMatmulDescDestroy(Desc* desc) { return delete desc, SUCCESS; }
int cublasLtMatmulDescSetAttribute(Desc* desc, int what, const void* value, size_t size) {
    switch (what) {
        case 2: return put(desc->pointers, value, size);
        case 3: return put(desc->transposed[0], value, size);
        case 4: return put(desc->transposed[1], value, size);
        case 7: return put(desc->epilogue, value, size);
        case 8: return put(desc->bias, value, size);
    }
    return INVALID_VALUE;
}

int cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    *layout = new Layout{type, rows, cols, ld};
    return SUCCESS;
}
int cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, SUCCESS; }
int cublasLtMatrixLayoutSetAttribute(Layout* layout, int what, const void* value, size_t size) {
    switch (what) {
        case 5: return put(layout->batch, value, size);
        case 6: return put(layout->stride, value, size);
    }
    return INVALID_VALUE;
}

int cublasLtMatmulPreferenceCreate(Preference** preference) { return *preference = new Preference(), SUCCESS; }
int cublasLtMatmulPreferenceDestroy(Preference* preference) { return delete preference, SUCCESS; }
int cublasLtMatmulPreferenceSetAttribute(Preference* preference, int what, const void* value, size_t size) {
    if (what == 1) return put(preference->workspace, value, size);
    if (what == 3) return put(preference->reduction, value, size);
    if (what >= 5 && what <= 8) return put(preference->alignment[what - 5], value, size);
    return INVALID_VALUE;
}

int cublasLtMatmulAlgoGetHeuristic(void* handle, const Desc* desc, const Layout* a, const Layout* b, const Layout* c,
                                   const Layout* d, const Preference* preference, int most, Found* found, int* count) {
    if (!handle || most < 1) return INVALID_VALUE;
    Product p = product_of(desc, a, b, c, d);
    *count = 0;
    if (int status = judged(p)) return status;
    if (static_cast<int64_t>(desc->transposed[0] ? a->rows : a->cols) == standin_no_algorithm) return SUCCESS;
    *count = 1;
    bool parts = (desc->transposed[0] ? a->rows : a->cols) > 4096;  // a long sum in parts, which need a place
    found->state = SUCCESS, found->waves = 1, found->workspace = parts ? preference->workspace : 0;
    found->algo = {key_of(p), found->workspace, {}, {}};
    std::memcpy(found->algo.alignment, preference->alignment, sizeof preference->alignment);
    return SUCCESS;
}

int cublasLtMatmulAlgoCheck(void* handle, const Desc* desc, const Layout* a, const Layout* b, const Layout* c,
                            const Layout* d, const Algo* algo, Found* found) {
    Product p = product_of(desc, a, b, c, d);
    if (int status = judged(p)) return status;
    if (!handle || algo->problem != key_of(p)) return INVALID_VALUE;
    bool plain = desc->epilogue == DEFAULT;
    bool refused = static_cast<int64_t>(desc->transposed[0] ? a->rows : a->cols) == standin_no_epilogue;
    if (!plain && refused) return NOT_SUPPORTED;
    found->workspace = algo->workspace, found->state = SUCCESS;
    return SUCCESS;
}

int standin_run(const Job* job) {
    job->a.type == R_64F ? multiply<double>(*job) : multiply<float>(*job);
    return SUCCESS;
}
void standin_free(Job* job) { delete job; }

int cublasLtMatmul(void* handle, const Desc* desc, const void* alpha, const void* A, const Layout* a, const void* B,
                   const Layout* b, const void* beta, const void* C, const Layout* c, void* D, const Layout* d,
                   const Algo* algo, void* workspace, size_t workspace_size, void* stream) {
    auto bytes = [](const void* at) { return static_cast<const char*>(at); };
    Product p = product_of(desc, a, b, c, d);
    Job job{p, 0, 0, nullptr, nullptr, bytes(A), bytes(B), bytes(C), static_cast<char*>(D)};
    if (int status = judged(job)) return status;
    if (!handle || !algo || algo->problem != key_of(job)) return INVALID_VALUE;
    const void* given[] = {A, B, C, D};
    for (int i = 0; i < 4; i++)
        if (!given[i] || reinterpret_cast<uintptr_t>(given[i]) % algo->alignment[i]) return INVALID_VALUE;
    if (workspace_size < algo->workspace || (algo->workspace && !workspace)) return INVALID_VALUE;
    if (reinterpret_cast<uintptr_t>(workspace) % 16) return INVALID_VALUE;
    if (desc->epilogue & ~BIAS & ~DEFAULT) return NOT_SUPPORTED;
    if (desc->epilogue & BIAS && (!desc->bias || reinterpret_cast<uintptr_t>(desc->bias) % 16)) return INVALID_VALUE;
    if (desc->pointers) job.alphas = alpha, job.betas = beta;
    else job.alpha = load(desc->scale, alpha), job.beta = load(desc->scale, beta);
    __atomic_fetch_add(&standin_calls, 1, __ATOMIC_RELAXED);
    if (standin_hook) {
        Job* kept = new Job(job);
        if (standin_hook(kept, stream)) return SUCCESS;
        delete kept;
    }
    return standin_run(&job);
}
}
