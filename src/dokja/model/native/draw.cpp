// From scores to tokens on the CPU, as engine/sampler.py has it in torch: one call a step.
//
// A filter is a least score to keep, and finding it is finding where the weights of the best scores reach a sum: sorted
// into bins from the best down, then the bin where that happens into finer bins, until so few are left that sorting
// them costs nothing. Ones for weights give top_k, probabilities top_p.
//
//   legend   V vocabulary, n candidates

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "vector.h"

namespace {

constexpr int PART = 128;       // tokens whose probabilities are summed before a draw looks at each
constexpr int BINS = 256;
constexpr int FEW = 64;         // candidates that are simply sorted
constexpr float NEAR = 12.f;    // log2 of how much less probable than the best the first candidates are

inline uint64_t mixed(uint64_t z) {  // splitmix64, as in engine/sampler.py
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

struct Memory {
    std::vector<float> row, e, score, weight, left, ones;
    std::vector<double> part;
    void resize(int64_t V) {
        for (auto* v : {&row, &e, &score, &weight, &left, &ones}) v->resize(V + VW);
        part.resize(V / PART + 1);
    }
};

float best_of(const float* s, int64_t V) {
    vf best = splat(-INFINITY);
    int64_t full = V / VW * VW;
    for (int64_t c = 0; c < full; c += VW) best = load(s + c) > best ? load(s + c) : best;
    float top = highest(best);
    for (int64_t c = full; c < V; c++) top = s[c] > top ? s[c] : top;
    return top;
}

// e[V] = 2^((s - top) * scale), zeros behind -> their sum; `part` has the sum of every PART of them
double exponentials(const float* s, int64_t V, float scale, float* e, double* part, float& top) {
    int64_t full = V / VW * VW;
    top = best_of(s, V);
    double total = 0;
    for (int64_t at = 0; at < V; at += PART) {
        vf together = {};
        for (int64_t c = at; c < V && c < at + PART; c += VW) {
            vf v;
            if (c < full) v = load(s + c);
            else for (int i = 0; i < VW; i++) v[i] = c + i < V ? s[c + i] : -INFINITY;
            v = exp2v((v - top) * scale);
            store(e + c, v);
            together += v;
        }
        total += part[at / PART] = sum(together);
    }
    return total;
}

inline bool any(vi lanes) {
    int32_t all = 0;
    for (int i = 0; i < VW; i++) all |= lanes[i];
    return all;
}

// The tokens with scores from `least` on, and their weights -> how many
int64_t candidates(const float* s, const float* e, int64_t V, float least, float* score, float* weight) {
    int64_t n = 0;
    for (int64_t c = 0; c < V; c += VW) {
        int64_t end = std::min(c + VW, V);
        if (end == c + VW && !any(load(s + c) >= least)) continue;
        for (int64_t i = c; i < end; i++) {
            score[n] = s[i];
            weight[n] = e[i];
            n += s[i] >= least;
        }
    }
    return n;
}

// Moves the scores that pass to the front, and their weights -> how many
template <class F> int64_t keep(float* score, float* weight, int64_t n, F passes) {
    int64_t left = 0;
    for (int64_t i = 0; i < n; i++) {
        float s = score[i], w = weight[i];
        score[left] = s;
        weight[left] = w;
        left += passes(s);
    }
    return left;
}

// The least v of n > 0 scores for which the weights of all greater ones stay below `need`; reorders both arrays
float crossing(float* score, float* weight, int64_t n, double need) {
    double before = 0;  // weight of all that is greater than what is left
    while (n > FEW) {
        float low = score[0], high = score[0];
        for (int64_t i = 1; i < n; i++) {
            low = score[i] < low ? score[i] : low;
            high = score[i] > high ? score[i] : high;
        }
        if (high == low) return high;
        float factor = BINS / (high - low);
        if (!(factor > 0 && factor < FLT_MAX)) break;
        auto bin = [&](float x) {
            float at = (high - x) * factor;
            return at < BINS - 1 ? static_cast<int>(at) : BINS - 1;
        };
        double bins[2][BINS] = {};  // two, so that neighbours seldom wait for each other
        for (int64_t i = 0; i < n; i++) bins[i & 1][bin(score[i])] += weight[i];
        int chosen = 0;
        double sum = before;  // of the bins before b
        for (int b = 0; b < BINS && sum < need; b++) {
            double own = bins[0][b] + bins[1][b];
            if (own > 0) chosen = b, before = sum;
            sum += own;
        }
        n = keep(score, weight, n, [&](float x) { return bin(x) == chosen; });
    }
    std::vector<std::pair<float, float>> rest(n);
    for (int64_t i = 0; i < n; i++) rest[i] = {score[i], weight[i]};
    std::sort(rest.begin(), rest.end(), [](auto& a, auto& b) { return a.first > b.first; });
    float found = rest[0].first;
    for (int64_t i = 0; i < n && before < need; i++) {
        found = rest[i].first;
        before += rest[i].second;
    }
    return found;
}

// The least score that top_k and top_p keep; e are the scores' weights, `total` their sum
float least_kept(const float* s, const float* e, int64_t V, float top, double total, float scale, int64_t k, double top_p,
                 Memory& m) {
    float least = -INFINITY, *score = m.score.data(), *weight = m.weight.data();
    int64_t n = candidates(s, e, V, top - NEAR / scale, score, weight);
    if (k > 0 && k < V) {
        if (n < k) n = candidates(s, e, V, -FLT_MAX, score, weight);
        if (n >= k) {
            std::copy_n(score, n, m.left.data());
            std::fill_n(m.ones.data(), n, 1.f);
            least = crossing(m.left.data(), m.ones.data(), n, k);
            n = keep(score, weight, n, [&](float x) { return x >= least; });
        }
    }
    if (top_p < 1) {
        auto sum = [&] { return std::accumulate(weight, weight + n, 0.); };
        double need = top_p * (least > -INFINITY ? sum() : total);
        if (sum() < need) n = candidates(s, e, V, -FLT_MAX, score, weight);
        if (n) least = std::max(least, crossing(score, weight, n, need));
    }
    return least;
}

struct Edits {
    const int64_t *first, *token;
    const float *scale, *add;
};

// The scores of row b as penalties, bias and grammar leave them: in `row`, or as they are where nothing changes them
const float* open_scores(const float* raw, int64_t V, int64_t b, const Edits& edits, const int32_t* allowed, int64_t words,
                         int64_t banned, float* row) {
    int64_t begin = edits.first ? edits.first[b] : 0, end = edits.first ? edits.first[b + 1] : 0;
    bool free = true;
    if (allowed) {
        allowed += b * words;
        for (int64_t w = 0; w < V / 32; w++) free &= allowed[w] == -1;
        for (int64_t t = V / 32 * 32; t < V; t++) free &= allowed[t / 32] >> t % 32 & 1;
    }
    if (begin == end && free && banned < 0) return raw;
    std::copy_n(raw, V, row);
    for (int64_t i = begin; i < end; i++) {  // in two steps: multiplied and added at once would be rounded otherwise
        float& x = row[edits.token[i]];
        x = x > 0 ? x / edits.scale[i] : x * edits.scale[i];
    }
    for (int64_t i = begin; i < end; i++) row[edits.token[i]] += edits.add[i];
    if (banned >= 0) row[banned] = -INFINITY;
    if (!free)
        for (int64_t t = 0; t < V; t++) row[t] = allowed[t / 32] >> t % 32 & 1 ? row[t] : -INFINITY;
    return row;
}

// The token where the sums of e reach the target, in vocabulary order
int64_t drawn(const float* e, const double* part, int64_t V, double target) {
    double before = 0;
    int64_t at = 0, found = -1;  // `at` begins the PART whose sums go beyond the target
    while (at + PART < V && before + part[at / PART] <= target) before += part[at / PART], at += PART;
    for (int64_t i = at; i < V && i < at + PART && before <= target; i++)
        if (e[i] > 0) before += e[i], found = i;
    for (int64_t i = V; found < 0 && i-- > 0;) found = e[i] > 0 ? i : found;
    return found < 0 ? 0 : found;  // scores that are no numbers: their log-probability will say so
}

}  // namespace

extern "C" {

// A token for each of B rows of scores, and its log-probability by `scores` as they are. Temperature, top_p, drop (see
// `least_kept` in sampler.py), top_k and key are for `each` rows; `forced` (an id, or -1), `first` (see `Edits` in
// penalties.py) and `allowed` (bits, `words` a row) may be null, `banned` -1.
void dokja_draw(const float* scores, int64_t B, int64_t V, int64_t ld, int64_t each, int64_t words, int64_t banned,
                const float* temperature, const float* top_p, const float* drop, const int64_t* top_k,
                const int64_t* key, const int64_t* position, const int64_t* forced, const int64_t* first,
                const int64_t* edited, const float* scale, const float* add, const int32_t* allowed, int64_t* token,
                float* logprob) {
#pragma omp parallel for schedule(static) if (B > 8)
    for (int64_t b = 0; b < B; b++) {
        thread_local Memory m;
        m.resize(V);
        const float* raw = scores + b * ld;
        int64_t slot = b / each, found = forced ? forced[b] : -1;
        float top = 0, heat = temperature[slot];
        double total = 0;  // of exponentials of the scores as they are, where known
        if (found < 0) {
            const float* s = open_scores(raw, V, b, {first, edited, scale, add}, allowed, words, banned, m.row.data());
            if (heat > 0) {
                double sum = exponentials(s, V, LOG2E / heat, m.e.data(), m.part.data(), top);
                if (s == raw && heat == 1.f) total = sum;
                if (top_p[slot] < 1 || top_k[slot] > 0 || drop[slot] < INFINITY) {
                    float least = least_kept(s, m.e.data(), V, top, sum, LOG2E / heat, top_k[slot], top_p[slot], m);
                    least = std::max(least, top - drop[slot]);
                    sum = 0;
                    for (int64_t at = 0; at < V; at += PART) {
                        float* e = m.e.data() + at;
                        int64_t end = std::min<int64_t>(PART, V - at);
                        for (int64_t i = 0; i < end; i++) e[i] = s[at + i] >= least ? e[i] : 0;
                        vf together = {};
                        for (int64_t i = 0; i < end; i += VW) together += load(e + i);
                        sum += m.part[at / PART] = ::sum(together);
                    }
                }
                uint64_t bits = mixed(static_cast<uint64_t>(key[slot]) +
                                      static_cast<uint64_t>(position[b]) * 0x9E3779B97F4A7C15u);
                found = drawn(m.e.data(), m.part.data(), V, (bits >> 11) * 0x1p-53 * sum);
            } else {
                float best = best_of(s, V);
                found = 0;
                while (found < V - 1 && s[found] != best) found++;
            }
        }
        if (!total) total = exponentials(raw, V, LOG2E, m.e.data(), m.part.data(), top);
        token[b] = found;
        logprob[b] = static_cast<float>(raw[found] - top - std::log(total));
    }
}

}  // extern "C"
