// Floating point and vectors. Nothing here is contracted to fused operations or taken from libm, so that every
// processor gives the same bits.
#include <immintrin.h>
#include <string.h>

#include "suite.h"

static double uniform(uint64_t* random) {
  return (double)(next_random(random) >> 11) / 9007199254740992.0 - 0.5;
}

static bool has_avx2(void) {
  return __builtin_cpu_supports("avx2");
}

// Matrix product

enum { kSide = 64 };
static double left[kSide][kSide] __attribute__((aligned(32))), right[kSide][kSide] __attribute__((aligned(32))),
    product[kSide][kSide] __attribute__((aligned(32)));

static void prepare_matrices(void) {
  uint64_t random = 8;
  for (int i = 0; i < kSide; ++i)
    for (int j = 0; j < kSide; ++j) left[i][j] = uniform(&random), right[i][j] = uniform(&random);
}

static uint64_t run_matrix_sse2(void) {
  for (int i = 0; i < kSide; ++i)
    for (int j = 0; j < kSide; j += 4) {
      __m128d low = _mm_setzero_pd(), high = _mm_setzero_pd();
      for (int k = 0; k < kSide; ++k) {
        const __m128d factor = _mm_set1_pd(left[i][k]);
        low = _mm_add_pd(low, _mm_mul_pd(factor, _mm_load_pd(&right[k][j])));
        high = _mm_add_pd(high, _mm_mul_pd(factor, _mm_load_pd(&right[k][j + 2])));
      }
      _mm_store_pd(&product[i][j], low);
      _mm_store_pd(&product[i][j + 2], high);
    }
  return mix_bytes(product, sizeof product);
}

static __attribute__((target("avx2"))) uint64_t run_matrix_avx2(void) {
  for (int i = 0; i < kSide; ++i)
    for (int j = 0; j < kSide; j += 8) {
      __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
      for (int k = 0; k < kSide; ++k) {
        const __m256d factor = _mm256_set1_pd(left[i][k]);
        low = _mm256_add_pd(low, _mm256_mul_pd(factor, _mm256_load_pd(&right[k][j])));
        high = _mm256_add_pd(high, _mm256_mul_pd(factor, _mm256_load_pd(&right[k][j + 4])));
      }
      _mm256_store_pd(&product[i][j], low);
      _mm256_store_pd(&product[i][j + 4], high);
    }
  return mix_bytes(product, sizeof product);
}

// Integer vectors: the sum of absolute differences and a saturated blend of two pictures

enum { kPixels = 16384 };
static uint8_t picture[2][kPixels] __attribute__((aligned(32)));

static void prepare_pictures(void) {
  uint64_t random = 9;
  for (int i = 0; i < kPixels; ++i) picture[0][i] = (uint8_t)next_random(&random), picture[1][i] = (uint8_t)(i * 7);
}

static __attribute__((target("avx2"))) uint64_t run_pixels_avx2(void) {
  __m256i differences = _mm256_setzero_si256(), blend = _mm256_setzero_si256();
  for (int i = 0; i < kPixels; i += 32) {
    const __m256i a = _mm256_load_si256((const __m256i*)&picture[0][i]);
    const __m256i b = _mm256_load_si256((const __m256i*)&picture[1][i]);
    differences = _mm256_add_epi64(differences, _mm256_sad_epu8(a, b));
    const __m256i shuffled = _mm256_shuffle_epi8(_mm256_avg_epu8(a, b), _mm256_and_si256(b, _mm256_set1_epi8(15)));
    blend = _mm256_xor_si256(_mm256_add_epi16(blend, blend), _mm256_subs_epu8(shuffled, a));
  }
  uint64_t results[8];
  _mm256_storeu_si256((__m256i*)results, differences);
  _mm256_storeu_si256((__m256i*)(results + 4), blend);
  return mix_bytes(results, sizeof results);
}

// Mandelbrot

enum { kPlane = 48, kIterations = 64 };

static uint64_t run_mandelbrot(void) {
  uint64_t sum = 0;
  for (int row = 0; row < kPlane; ++row)
    for (int column = 0; column < kPlane; ++column) {
      const double a = column * 3.0 / kPlane - 2.2, b = row * 3.0 / kPlane - 1.5;
      double x = 0, y = 0;
      int n = 0;
      while (n < kIterations && x * x + y * y < 4) {
        const double next = x * x - y * y + a;
        y = 2 * x * y + b;
        x = next;
        ++n;
      }
      sum = mix(sum, (uint64_t)n);
    }
  return sum;
}

// Fast Fourier transform, radix 2

enum { kPoints = 1024, kLogPoints = 10 };
static double real[kPoints], imaginary[kPoints], cosine[kPoints / 2], sine[kPoints / 2], signal_in[kPoints];

static void prepare_fft(void) {
  const double step_cosine = 0.99998117528260111, step_sine = 0.0061358846491544753;  // of 2 pi / 1024
  uint64_t random = 10;
  cosine[0] = 1, sine[0] = 0;
  for (int i = 1; i < kPoints / 2; ++i) {
    cosine[i] = cosine[i - 1] * step_cosine - sine[i - 1] * step_sine;
    sine[i] = sine[i - 1] * step_cosine + cosine[i - 1] * step_sine;
  }
  for (int i = 0; i < kPoints; ++i) signal_in[i] = uniform(&random);
}

static uint64_t run_fft(void) {
  for (unsigned i = 0; i < kPoints; ++i) {
    unsigned reversed = 0;
    for (int bit = 0; bit < kLogPoints; ++bit) reversed |= (i >> bit & 1) << (kLogPoints - 1 - bit);
    real[reversed] = signal_in[i];
    imaginary[reversed] = 0;
  }
  for (int half = 1; half < kPoints; half *= 2)
    for (int group = 0; group < kPoints; group += 2 * half)
      for (int i = 0; i < half; ++i) {
        const int a = group + i, b = a + half, angle = i * (kPoints / 2 / half);
        const double re = real[b] * cosine[angle] + imaginary[b] * sine[angle];
        const double im = imaginary[b] * cosine[angle] - real[b] * sine[angle];
        real[b] = real[a] - re, imaginary[b] = imaginary[a] - im;
        real[a] += re, imaginary[a] += im;
      }
  return mix(mix_bytes(real, sizeof real), mix_bytes(imaginary, sizeof imaginary));
}

// x87: e and pi by their series, and a square root by Newton's method, in 80 bits

enum { kSeries = 2000 };

static uint64_t run_x87(void) {
  volatile long double one = 1;  // or the compiler does all of it
  long double e = one, term = one, pi = 0, root = one;
  for (int i = 1; i < kSeries; ++i) {
    term = i % 20 == 0 ? one : term / i;
    e += term;
    pi += (i % 2 ? 4 : -4) / (long double)(2 * i - 1);
    root = (root + i / root) / 2;
  }
  const long double results[3] = {e, pi, root};
  uint64_t sum = 0;
  for (int i = 0; i < 3; ++i) sum = mix(sum, mix_bytes(&results[i], 10));
  return sum;
}

// Bodies that attract each other

enum { kBodies = 5, kSteps = 200 };
struct Body {
  double at[3], speed[3], mass;
};

static double square_root(double x) {
  return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(x), _mm_set_sd(x)));
}

static uint64_t run_nbody(void) {
  struct Body bodies[kBodies];
  uint64_t random = 11;
  for (int i = 0; i < kBodies; ++i) {
    for (int axis = 0; axis < 3; ++axis)
      bodies[i].at[axis] = 10 * uniform(&random), bodies[i].speed[axis] = uniform(&random);
    bodies[i].mass = 1 + uniform(&random);
  }
  for (int step = 0; step < kSteps; ++step) {
    for (int i = 0; i < kBodies; ++i)
      for (int j = i + 1; j < kBodies; ++j) {
        double apart[3], square = 0.01;
        for (int axis = 0; axis < 3; ++axis) {
          apart[axis] = bodies[i].at[axis] - bodies[j].at[axis];
          square += apart[axis] * apart[axis];
        }
        const double pull = 0.001 / (square * square_root(square));
        for (int axis = 0; axis < 3; ++axis) {
          bodies[i].speed[axis] -= apart[axis] * bodies[j].mass * pull;
          bodies[j].speed[axis] += apart[axis] * bodies[i].mass * pull;
        }
      }
    for (int i = 0; i < kBodies; ++i)
      for (int axis = 0; axis < 3; ++axis) bodies[i].at[axis] += 0.001 * bodies[i].speed[axis];
  }
  return mix_bytes(bodies, sizeof bodies);
}

const struct Row kFloatingRows[] = {
    {"floating.matrix-sse2", "ns/product", kSide* kSide* kSide, prepare_matrices, run_matrix_sse2},
    {"floating.matrix-avx2", "ns/product", kSide* kSide* kSide, prepare_matrices, run_matrix_avx2, 0, has_avx2},
    {"floating.pixels-avx2", "ns/pixel", kPixels, prepare_pictures, run_pixels_avx2, 0, has_avx2},
    {"floating.mandelbrot", "ns/pixel", kPlane* kPlane, NULL, run_mandelbrot},
    {"floating.fft", "ns/point", kPoints, prepare_fft, run_fft},
    {"floating.x87", "ns/term", kSeries, NULL, run_x87},
    {"floating.nbody", "ns/step", kSteps, NULL, run_nbody},
    {0},
};
