// Convolutions of one NHWC image with stride 1 and padding SAME, and their filters' gradients.
//
// An image is padded with zeros. Then the kw * c numbers that a row of a kernel reads lie side by
// side: a run.
#ifndef SPARSENET_CONVOLUTION_H_
#define SPARSENET_CONVOLUTION_H_

#include <vector>

#include "vectors.h"

namespace sparsenet {

constexpr int64_t kPanelBytes = 24 * 1024;  // that stay in the first-level cache
constexpr int64_t kGradientPixels = 128;    // of which a part of the runs stays there

// An image [h][w][c] and a kernel [kh][kw][c][k].
struct Shape {
  int64_t h, w, c, kh, kw, k;

  int64_t run() const { return kw * c; }
  int64_t top() const { return (kh - 1) / 2; }
  int64_t left() const { return (kw - 1) / 2; }
  int64_t pitch() const { return (w + kw - 1) * c; }
  int64_t pixels() const { return h * w; }
  // Numbers of a padded image; vectors may be read from its last pixel on.
  int64_t padded() const { return (h + kh - 1) * pitch() + kLanes; }
};

// A kernel [kh][run][k] in the order in which it is read, filled up with zeros:
// [panel][part of the run][kh][step][vectors of the panel]. Where pairs of a run are spread, their
// products lie beside each other, for fewer lanes stay empty with some numbers of channels.
class Panels {
 public:
  Panels(const float* kernel, int64_t kh, int64_t run, int64_t k) : kh_(kh), run_(run), k_(k) {
    const int64_t alone = CeilDiv(k, kLanes), paired = CeilDiv(2 * k, kLanes);
    spread_ = run % 2 == 0 && Cost(paired, 2) < Cost(alone, 1) ? 2 : 1;
    vectors_ = spread_ == 2 ? paired : alone;
    panels_ = CeilDiv(vectors_, kVectors);
    const int64_t bytes = CeilDiv(vectors_, panels_) * kh * Steps() * kLanes * sizeof(float);
    parts_ = std::min(CeilDiv(bytes, kPanelBytes), Steps());
    values_.assign(vectors_ * kh * Steps() * kLanes, 0.0f);
    Fill(kernel);
  }

  // Convolve a padded image: y[h][w][k].
  void Convolve(const float* padded, const Shape& s, float* y) const {
    if (spread_ == 2) {
      ConvolveWith<2>(padded, s, y);
    } else {
      ConvolveWith<1>(padded, s, y);
    }
  }

 private:
  int64_t Steps() const { return run_ / spread_; }
  int64_t FirstVector(int64_t panel) const { return Part(vectors_, panels_, panel); }
  int64_t FirstStep(int64_t part) const { return Part(Steps(), parts_, part); }
  int64_t FirstChannel(int64_t panel) const {
    return std::min(k_, FirstVector(panel) * kLanes / spread_);
  }

  // Of a pixel: its products, the numbers that are spread for them, and what its sums take.
  double Cost(int64_t vectors, int64_t spread) const {
    const double steps = static_cast<double>(kh_ * run_) / spread;
    return steps * (vectors + 0.5 * CeilDiv(vectors, kVectors)) + (spread == 2 ? 4 : 1) * vectors;
  }

  void Fill(const float* kernel) {
    float* to = values_.data();
    for (int64_t panel = 0; panel < panels_; ++panel)
      for (int64_t part = 0; part < parts_; ++part)
        for (int64_t row = 0; row < kh_; ++row)
          for (int64_t step = FirstStep(part); step < FirstStep(part + 1); ++step) {
            const int64_t first = FirstChannel(panel), end = FirstChannel(panel + 1);
            const float* from = kernel + (row * run_ + step * spread_) * k_;
            for (int64_t channel = first; channel < end; ++channel)
              for (int64_t i = 0; i < spread_; ++i)
                to[(channel - first) * spread_ + i] = from[i * k_ + channel];
            to += (FirstVector(panel + 1) - FirstVector(panel)) * kLanes;
          }
  }

  template <int kSpread>
  void ConvolveWith(const float* padded, const Shape& s, float* y) const {
    const float* values = values_.data();
    for (int64_t panel = 0; panel < panels_; ++panel) {
      const int64_t vectors = FirstVector(panel + 1) - FirstVector(panel);
      const int64_t channel = FirstChannel(panel), width = FirstChannel(panel + 1) - channel;
      for (int64_t part = 0; part < parts_; ++part) {
        const int64_t steps = FirstStep(part + 1) - FirstStep(part), size = vectors * kLanes;
        const Walk walk = {kh_, steps, s.c, kSpread, s.pitch(), size, steps * size};
        for (int64_t row = 0; row < s.h; ++row) {
          const float* x = padded + row * s.pitch() + FirstStep(part) * kSpread;
          float* out = y + row * s.w * s.k + channel;
          OuterProducts<kSpread>(vectors, walk, s.w, x, values, [&](int64_t at, const float* sums) {
            Put<kSpread>(sums, width, part > 0, out + at * s.k);
          });
        }
        values += kh_ * steps * size;
      }
    }
  }

  // Write the sums of a pixel to `width` channels of it, or add them there.
  template <int kSpread>
  static void Put(const float* sums, int64_t width, bool add, float* y) {
    constexpr int kChannels = kLanes / kSpread;
    for (; width > 0; width -= kChannels, sums += kLanes, y += kChannels) {
      const int64_t count = std::min<int64_t>(width, kChannels);
      const Vector sum = kSpread == 2 ? AddPairs(Load(sums)) : Load(sums);
      Store(y, add ? Load(y, count) + sum : sum, count);
    }
  }

  int64_t kh_, run_, k_, spread_ = 1, vectors_, panels_, parts_;
  std::vector<float> values_;
};

// Return the kernel upside down, left for right, with input and output exchanged: the input's
// gradient is a convolution of the output's with it.
inline std::vector<float> Turned(const float* kernel, const Shape& s) {
  std::vector<float> turned(s.kh * s.run() * s.k);
  const int64_t last = s.kh * s.kw - 1;
  for (int64_t at = 0; at <= last; ++at)
    for (int64_t c = 0; c < s.c; ++c)
      for (int64_t k = 0; k < s.k; ++k)
        turned[((last - at) * s.k + k) * s.c + c] = kernel[(at * s.c + c) * s.k + k];
  return turned;
}

// An image [h][w][c] with zeros around it: `top` rows above it and `left` pixels before it.
class Padded {
 public:
  Padded(const Shape& s, int64_t top, int64_t left, std::vector<float>* memory) : s_(s) {
    if (static_cast<int64_t>(memory->size()) < s.padded()) memory->resize(s.padded());
    first_ = memory->data();
    inside_ = first_ + top * s.pitch() + left * s.c;
    const int64_t between = (s.kw - 1) * s.c;
    std::fill(first_, inside_, 0.0f);
    for (int64_t y = 0; y + 1 < s.h; ++y) std::fill_n(row(y) + s.w * s.c, between, 0.0f);
    std::fill(row(s.h - 1) + s.w * s.c, first_ + s.padded(), 0.0f);
  }

  const float* first() const { return first_; }
  float* row(int64_t y) const { return inside_ + y * s_.pitch(); }

  void Copy(const float* image) const {
    for (int64_t y = 0; y < s_.h; ++y)
      memcpy(row(y), image + y * s_.w * s_.c, s_.w * s_.c * sizeof(float));
  }

 private:
  Shape s_;
  float *first_, *inside_;
};

// The gradient of a filter, added up over images: [kh][k][run, filled up to whole vectors].
class FilterGradient {
 public:
  explicit FilterGradient(const Shape& s)
      : s_(s), vectors_(CeilDiv(s.run(), kLanes)), sums_(s.kh * s.k * vectors_ * kLanes) {}

  // Add that of an image, from its padded input and the gradient of its output.
  void Add(const float* padded, const float* dy) {
    const int64_t bands = CeilDiv(s_.h, std::max<int64_t>(1, kGradientPixels / s_.w));
    const int64_t blocks = CeilDiv(vectors_, kVectors);
    for (int64_t band = 0; band < bands; ++band)
      for (int64_t row = 0; row < s_.kh; ++row)
        for (int64_t block = 0; block < blocks; ++block)
          AddBand(Part(s_.h, bands, band), Part(s_.h, bands, band + 1), row,
                  Part(vectors_, blocks, block), Part(vectors_, blocks, block + 1), padded, dy);
  }

  // Number `at` of the run of a row, for an output channel.
  float value(int64_t row, int64_t at, int64_t channel) const {
    return sums_[(row * s_.k + channel) * vectors_ * kLanes + at];
  }

 private:
  void AddBand(int64_t from, int64_t to, int64_t row, int64_t first, int64_t end,
               const float* padded, const float* dy) {
    const Walk walk = {to - from, s_.w, 1, s_.k, s_.w * s_.k, s_.c, s_.pitch()};
    const float* runs = padded + (from + row) * s_.pitch() + first * kLanes;
    float* sums = &sums_[(row * s_.k * vectors_ + first) * kLanes];
    OuterProducts<1>(end - first, walk, s_.k, dy + from * s_.w * s_.k, runs,
                     [&](int64_t channel, const float* found) {
      float* sum = sums + channel * vectors_ * kLanes;
      for (int64_t j = 0; j < end - first; ++j, sum += kLanes)
        Store(sum, Load(sum) + Load(found + j * kLanes));
    });
  }

  Shape s_;
  int64_t vectors_;
  std::vector<float> sums_;
};

}  // namespace sparsenet

#endif  // SPARSENET_CONVOLUTION_H_
