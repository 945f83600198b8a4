// Matrices into the bytes that matrix.h describes, and such bytes into memory with a checksum.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "matrix.h"

namespace {

// work(0..count-1) by some threads that live for this call alone: nobody waits for them between calls.
template <class F>
void share(int64_t threads, int64_t count, F work) {
    std::atomic<int64_t> next{0};
    auto run = [&] {
        for (int64_t i; (i = next.fetch_add(1)) < count;) work(i);
    };
    std::vector<std::thread> others;
    for (int64_t t = 1; t < std::min(threads, count); t++) others.emplace_back(run);
    run();
    for (auto& other : others) other.join();
}

inline vf magnitude(vf v) { return v < 0.f ? -v : v; }

inline vf larger(vf a, vf b) { return a > b ? a : b; }

inline int rounded(float x) { return static_cast<int>(std::nearbyint(x)); }

// One output's n weights into its lane of a panel.

void pack_bf16(const float* x, int64_t n, uint8_t* to, int64_t lane) {
    for (int64_t d = 0; d < n; d += 2) {
        const uint16_t two[2] = {to_bf16(x[d]), to_bf16(x[d + 1])};
        std::memcpy(to + (d / 2 * PANEL + lane) * 4, two, 4);
    }
}

float pack_int8(const float* x, int64_t n, uint8_t* to, int64_t lane) {  // -> the scale
    vf tops = {};
    for (int64_t d = 0; d < n; d += VW) tops = larger(tops, magnitude(load(x + d)));
    const float top = highest(tops), inverse = top > 0 ? 127.f / top : 0.f;
    for (int64_t d = 0; d < n; d += 4) {
        uint8_t four[4];
        for (int k = 0; k < 4; k++) four[k] = static_cast<uint8_t>(rounded(x[d + k] * inverse) + 128);
        std::memcpy(to + (d / 4 * PANEL + lane) * 4, four, 4);
    }
    return top / 127.f;
}

void pack_int4(const float* x, int64_t n, uint8_t* to, int64_t lane) {
    for (int64_t g = 0; g < n / GROUP; g++, x += GROUP, to += BLOCK4) {
        // The value furthest from zero becomes -8, so that all sixteen steps are used; the first of two as far.
        const float top = highest(larger(magnitude(load(x)), magnitude(load(x + VW))));
        float far = 0;
        for (int k = GROUP - 1; k >= 0; k--) far = std::fabs(x[k]) == top ? x[k] : far;
        const uint16_t half = _cvtss_sh(far / -8.f, 0);
        std::memcpy(to + 4 * 128 + lane * 2, &half, 2);
        const float scale = _cvtsh_ss(half), inverse = scale != 0 ? 1.f / scale : 0.f;
        uint8_t v[GROUP];
        for (int k = 0; k < GROUP; k++)
            v[k] = static_cast<uint8_t>(std::min(15, std::max(0, rounded(x[k] * inverse) + 8)));
        for (int i = 0; i < 4; i++) {
            uint8_t four[4];
            for (int k = 0; k < 4; k++) four[k] = static_cast<uint8_t>(v[8 * i + k] | v[8 * i + 4 + k] << 4);
            std::memcpy(to + (i * PANEL + lane) * 4, four, 4);
        }
    }
}

bool finite(const float* x, int64_t n) {
    vf total = {};
    for (int64_t d = 0; d < n; d += VW) total += load(x + d) * 0.f;  // 0, or nan where one is not
    return sum(total) == 0.f;
}

// A checksum that any changed bit changes; against damage, not against intent. Copies what it reads where `to` is.
constexpr int64_t PIECE = 1 << 20;
constexpr int LANES = 4;

inline vu mixed(vu h, vu w) {
    h ^= w;
    return (h << 15 | h >> 17) * 0x9E3779B1u;
}

inline uint64_t mixed(uint64_t h, uint64_t w) {
    h = (h ^ w) * 0x9E3779B97F4A7C15ull;
    return h ^ h >> 29;
}

uint64_t checksum(const uint8_t* from, uint8_t* to, int64_t bytes, uint64_t seed) {
    constexpr int64_t STEP = LANES * VW * 4;
    vu h[LANES] = {};
    auto take = [&](const uint8_t* p, uint8_t* out) {
        for (int i = 0; i < LANES; i++) {
            vu w = reinterpret_cast<const vu*>(p)[i];
            if (out) reinterpret_cast<vu*>(out)[i] = w;
            h[i] = mixed(h[i], w);
        }
    };
    int64_t at = 0;
    for (; at + STEP <= bytes; at += STEP) take(from + at, to ? to + at : nullptr);
    if (at < bytes) {
        uint8_t rest[STEP] = {};
        std::memcpy(rest, from + at, bytes - at);
        take(rest, nullptr);
        if (to) std::memcpy(to + at, rest, bytes - at);
    }
    uint64_t all = mixed(seed, static_cast<uint64_t>(bytes));
    for (auto& lane : h)
        for (int c = 0; c < VW; c++) all = mixed(all, lane[c]);
    return all;
}

}  // namespace

extern "C" {

// w[N, n], fp32 or (half) bf16, n a multiple of GROUP -> packed as matrix.h says, the last panel filled up with zeros.
// `scale`, for INT8, has a number for every output of the panels. Returns how many outputs are not finite.
int64_t dokja_pack(const void* w, int64_t half, int64_t N, int64_t n, int64_t kind, uint8_t* data, float* scale,
                   int64_t threads) {
    const Matrix m{data, scale, n, N, kind};
    std::atomic<int64_t> wrong{0};
    share(threads, m.panels(), [&](int64_t p) {
        std::vector<float> own(n);
        uint8_t* to = data + p * m.panel_bytes();
        for (int64_t lane = 0; lane < PANEL; lane++) {
            const int64_t o = p * PANEL + lane;
            const float* x = own.data();
            if (o >= N)
                std::fill(own.begin(), own.end(), 0.f);
            else if (!half)
                x = static_cast<const float*>(w) + o * n;
            else
                for (int64_t d = 0; d < n; d += VW) store(&own[d], load(static_cast<const uint16_t*>(w) + o * n + d));
            if (!finite(x, n)) {
                wrong++;
                continue;
            }
            if (kind == BF16) pack_bf16(x, n, to, lane);
            if (kind == INT8) scale[o] = pack_int8(x, n, to, lane);
            if (kind == INT4) pack_int4(x, n, to, lane);
        }
    });
    return wrong;
}

// The checksum of some bytes, which are copied to `to` on the way where it is not null.
uint64_t dokja_copy(const uint8_t* from, uint8_t* to, int64_t bytes, int64_t threads) {
    const int64_t pieces = (bytes + PIECE - 1) / PIECE;
    std::vector<uint64_t> sums(pieces);
    share(threads, pieces, [&](int64_t i) {
        const int64_t at = i * PIECE;
        sums[i] = checksum(from + at, to ? to + at : nullptr, std::min(PIECE, bytes - at), i);
    });
    uint64_t all = 0;
    for (uint64_t piece : sums) all = mixed(all, piece);
    return all;
}

}  // extern "C"
