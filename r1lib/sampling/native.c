/* What two cores do in one pass over memory where plain torch makes ten: see native.py, which compiles this for the heads of one model.

   HEADS query heads share KV_HEADS heads of keys and values, each of DIM numbers; there are VOCABULARY tokens. All numbers are float32, and
   all arrays lie without gaps but where a stride is given, in numbers. Each row is computed by one thread and in one order, so it does not
   depend on the rows beside it. */

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define SHARING (HEADS / KV_HEADS)
#define LINES (HEADS + 2 * KV_HEADS)
#define BLOCK 64                       /* slots that are weighed at a time */
#define ALIGNED _Alignas(64)           /* said by us, since GCC 12 takes local arrays for better aligned than it lays them */

/* ---------------------------------------------------------------------------------------------------------------------------------------
   Attention of a token to what came before */

/* One head of a token, normed where the model does, turned by the angles of its position, and scaled. */
static void turn(float *restrict out, const float *restrict in, const float *restrict cos, const float *restrict sin,
                 const float *restrict norm, float eps, float scale) {
    ALIGNED float normed[DIM];
    float squares = 0;
    for (int d = 0; d < DIM; d++)
        squares += in[d] * in[d];
    float root = sqrtf(squares / DIM + eps);
    for (int d = 0; d < DIM; d++)
        normed[d] = scale * (norm ? in[d] / root * norm[d] : in[d]);
    for (int d = 0; d < DIM; d++)
        out[d] = normed[d] * cos[d] + normed[(d + DIM / 2) % DIM] * sin[d];
}

/* A softmax that is still running: the highest score so far, the sum of the weights, and the weighted sum of the values. */
typedef struct {
    ALIGNED float best[SHARING], total[SHARING], found[SHARING][DIM];
} Running;

static void attend_to(Running *restrict so_far, float queries[SHARING][DIM], const float *restrict keys, const float *restrict values,
                      int64_t count) {
    ALIGNED float weights[SHARING][BLOCK];
    for (int64_t start = 0; start < count; start += BLOCK, keys += BLOCK * DIM, values += BLOCK * DIM) {
        int slots = count - start < BLOCK ? count - start : BLOCK;
        for (int s = 0; s < slots; s++)
            for (int q = 0; q < SHARING; q++) {
                float score = 0;
                for (int d = 0; d < DIM; d++)
                    score += queries[q][d] * keys[s * DIM + d];
                weights[q][s] = score;
            }
        for (int q = 0; q < SHARING; q++) {
            float higher = so_far->best[q], sum = 0;
            for (int s = 0; s < slots; s++)
                higher = fmaxf(higher, weights[q][s]);
            for (int s = 0; s < slots; s++)
                sum += weights[q][s] = expf(weights[q][s] - higher);
            float less = expf(so_far->best[q] - higher);
            so_far->total[q] = so_far->total[q] * less + sum;
            so_far->best[q] = higher;
            for (int d = 0; d < DIM; d++)
                so_far->found[q][d] *= less;
        }
        ALIGNED float found[SHARING][DIM];
        for (int q = 0; q < SHARING; q++)
            for (int d = 0; d < DIM; d++)
                found[q][d] = so_far->found[q][d];
        for (int s = 0; s < slots; s++)
            for (int q = 0; q < SHARING; q++)
                for (int d = 0; d < DIM; d++)
                    found[q][d] += weights[q][s] * values[s * DIM + d];
        for (int q = 0; q < SHARING; q++)
            for (int d = 0; d < DIM; d++)
                so_far->found[q][d] = found[q][d];
    }
}

void attend(float *restrict joint, const float *restrict cos, const float *restrict sin, const float *restrict prompt_memory,
            float *restrict own_memory, const int64_t *restrict prompt_of, const int64_t *restrict length_of,
            const int64_t *restrict answer_of, int64_t step, const float *restrict q_norm, const float *restrict k_norm,
            float *restrict out, int64_t rows, int64_t prompt_kind, int64_t prompt_row, int64_t prompt_head, int64_t own_kind,
            int64_t own_row, int64_t own_head, float scale, float eps) {
    #pragma omp parallel for schedule(static) collapse(2) if (rows > 1)
    for (int64_t row = 0; row < rows; row++)
        for (int head = 0; head < KV_HEADS; head++) {
            const float *token = joint + row * LINES * DIM;
            const float *c = cos + (length_of[row] + step) * DIM, *s = sin + (length_of[row] + step) * DIM;
            const float *shared = prompt_memory + prompt_of[row] * prompt_row + head * prompt_head;
            float *own = own_memory + answer_of[row] * own_row + head * own_head;
            ALIGNED float queries[SHARING][DIM];
            for (int q = 0; q < SHARING; q++)
                turn(queries[q], token + (head * SHARING + q) * DIM, c, s, q_norm, eps, scale);
            turn(own + step * DIM, token + (HEADS + head) * DIM, c, s, k_norm, eps, 1);
            for (int d = 0; d < DIM; d++)
                own[own_kind + step * DIM + d] = token[(HEADS + KV_HEADS + head) * DIM + d];
            Running so_far = {0};
            for (int q = 0; q < SHARING; q++)
                so_far.best[q] = -1e30f;
            attend_to(&so_far, queries, shared, shared + prompt_kind, length_of[row]);
            attend_to(&so_far, queries, own, own + own_kind, step + 1);
            for (int q = 0; q < SHARING; q++)
                for (int d = 0; d < DIM; d++)
                    out[(row * HEADS + head * SHARING + q) * DIM + d] = so_far.found[q][d] / so_far.total[q];
        }
}

/* ---------------------------------------------------------------------------------------------------------------------------------------
   What lies between the matrix products */

/* Each row of x divided by the root of its mean square, times the weights. */
void norm(const float *restrict x, const float *restrict weight, float *restrict out, int64_t rows, int64_t width, float eps) {
    #pragma omp parallel for schedule(static) if (rows > 16)
    for (int64_t row = 0; row < rows; row++) {
        const float *in = x + row * width;
        float squares = 0;
        for (int64_t i = 0; i < width; i++)
            squares += in[i] * in[i];
        float scale = 1 / sqrtf(squares / width + eps);
        for (int64_t i = 0; i < width; i++)
            out[row * width + i] = in[i] * scale * weight[i];
    }
}

/* silu(gate) * up, for two arrays of `count` numbers; into the first. */
void gated(float *restrict gate, const float *restrict up, int64_t count) {
    #pragma omp parallel for schedule(static) if (count > 8192)
    for (int64_t i = 0; i < count; i++)
        gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

/* ---------------------------------------------------------------------------------------------------------------------------------------
   One token */

void draw(const float *restrict logits, const double *restrict uniform, const int64_t *restrict answer_of, int64_t step, float heat,
          int64_t *restrict ids, int64_t *restrict all_ids, float *restrict all_logprobs, bool *restrict ended,
          const bool *restrict stops, float *restrict weights, int64_t rows, int64_t steps) {
    #pragma omp parallel for schedule(static) if (rows > 4)
    for (int64_t row = 0; row < rows; row++) {
        const float *in = logits + row * VOCABULARY;
        float *weight = weights + row * VOCABULARY, highest = in[0];
        for (int64_t i = 1; i < VOCABULARY; i++)
            highest = fmaxf(highest, in[i]);
        for (int64_t i = 0; i < VOCABULARY; i++)
            weight[i] = expf((in[i] - highest) * heat);
        double total = 0, sums[(VOCABULARY + BLOCK - 1) / BLOCK];
        for (int64_t block = 0; block * BLOCK < VOCABULARY; block++) {
            int64_t end = (block + 1) * BLOCK < VOCABULARY ? (block + 1) * BLOCK : VOCABULARY;
            sums[block] = 0;
            for (int64_t i = block * BLOCK; i < end; i++)
                sums[block] += weight[i];
            total += sums[block];
        }
        int64_t note = answer_of[row] * steps + step, block = 0, token = 0;
        double wanted = uniform[note] * total, running = 0;
        while ((block + 1) * BLOCK < VOCABULARY && running + sums[block] <= wanted)
            running += sums[block++];
        for (int64_t i = block * BLOCK; i < VOCABULARY && running <= wanted; i++) {
            running += weight[i];
            if (weight[i] > 0)
                token = i;             /* the last one with weight, if rounding hides where the sum passes what is wanted */
        }
        ids[row] = all_ids[note] = token;
        all_logprobs[note] = log(weight[token] / total);
        ended[row] |= stops[token];
    }
}
