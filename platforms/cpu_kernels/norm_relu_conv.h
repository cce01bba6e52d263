// Batch normalisation of feature maps side by side, ReLU and convolution in one go, and the
// gradients. Between them nothing is written to memory but the gradient of the normalised input.
#ifndef SPARSENET_NORM_RELU_CONV_H_
#define SPARSENET_NORM_RELU_CONV_H_

#include <cmath>

#include "convolution.h"
#include "team.h"

namespace sparsenet {

constexpr int64_t kGradientGroups = 16;  // of images, whose filter gradients are added up in order

// A feature map [n][h][w][channels].
struct Map {
  const float* values;
  int64_t channels;
};

// Sums over the pixels of one image after the other: [image][channel].
class Sums {
 public:
  Sums(int64_t images, int64_t channels)
      : images_(images), channels_(channels), values_(images * channels) {}

  void Add(int64_t image, int64_t channel, Vector sum, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values_[image * channels_ + channel + i] += sum[i];
  }

  std::vector<double> Total() const {
    std::vector<double> total(channels_);
    for (int64_t image = 0; image < images_; ++image)
      for (int64_t c = 0; c < channels_; ++c) total[c] += values_[image * channels_ + c];
    return total;
  }

 private:
  int64_t images_, channels_;
  std::vector<double> values_;
};

// Write mean and variance (over all of them) of each channel of a map.
inline void Moments(const Map& map, int64_t images, int64_t pixels, float* mean, float* variance) {
  // Of the distances to some value of the channel: the squares of large numbers would lose digits.
  const int64_t c = map.channels;
  const float* pivot = map.values;
  Sums sums(images, c), squares(images, c);
  TheTeam().Run(images, [&](int64_t image) {
    const float* x = map.values + image * pixels * c;
    for (int64_t at = 0; at < c; at += kLanes) {
      const int64_t count = std::min<int64_t>(kLanes, c - at);
      const Vector from = Load(pivot + at, count);
      for (int64_t pixel = 0; pixel < pixels;) {
        Vector sum = {}, square = {};
        for (const int64_t end = std::min<int64_t>(pixel + 64, pixels); pixel < end; ++pixel) {
          const Vector distance = Load(x + pixel * c + at, count) - from;
          sum += distance;
          square += distance * distance;
        }
        sums.Add(image, at, sum, count);
        squares.Add(image, at, square, count);
      }
    }
  });
  const std::vector<double> sum = sums.Total(), square = squares.Total();
  const double total = static_cast<double>(images) * pixels;
  for (int64_t i = 0; i < c; ++i) {
    const double distance = sum[i] / total;
    mean[i] = static_cast<float>(pivot[i] + distance);
    variance[i] = static_cast<float>(std::max(0.0, square[i] / total - distance * distance));
  }
}

// What the forward and the backward pass share.
struct Layer {
  Shape shape;
  int64_t images;
  std::vector<Map> maps;  // c channels in all
  const float *gamma, *beta, *kernel;
  std::vector<float> mean, variance;  // [c]
  float epsilon;
  bool relu;

  double InverseDeviation(int64_t c) const {
    return 1.0 / std::sqrt(static_cast<double>(variance[c]) + epsilon);
  }
};

// Call use(values of the map at this row, channel of the map, channel of all, number of channels)
// for every map of a row, and for as many of its channels as a vector has.
template <class Use>
void ForVectors(const Layer& layer, int64_t image, int64_t row, Use use) {
  const int64_t pixel = (image * layer.shape.h + row) * layer.shape.w;
  int64_t channel = 0;
  for (const Map& map : layer.maps) {
    for (int64_t at = 0; at < map.channels; at += kLanes)
      use(map.values + pixel * map.channels + at, map, at, channel + at,
          std::min<int64_t>(kLanes, map.channels - at));
    channel += map.channels;
  }
}

// Return gamma / deviation of each channel.
inline std::vector<float> Scales(const Layer& layer) {
  std::vector<float> scales(layer.shape.c);
  for (int64_t c = 0; c < layer.shape.c; ++c)
    scales[c] = static_cast<float>(layer.gamma[c] * layer.InverseDeviation(c));
  return scales;
}

// Write the input of the convolution of one image.
inline void Activate(const Layer& layer, const std::vector<float>& scales, int64_t image,
                     const Padded& to) {
  const int64_t width = layer.shape.w, c = layer.shape.c;
  const Vector least = Spread(layer.relu ? 0.0f : -INFINITY);
  for (int64_t row = 0; row < layer.shape.h; ++row) {
    float* out = to.row(row);
    ForVectors(layer, image, row, [&](const float* x, const Map& map, int64_t, int64_t channel,
                                      int64_t count) {
      const Vector scale = Load(&scales[channel], count);
      const Vector mean = Load(&layer.mean[channel], count);
      const Vector beta = Load(layer.beta + channel, count);
      for (int64_t pixel = 0; pixel < width; ++pixel) {
        const Vector value = (Load(x + pixel * map.channels, count) - mean) * scale + beta;
        Store(out + pixel * c + channel, AtLeast(least, value), count);
      }
    });
  }
}

inline std::vector<float>& Memory(int number) {
  thread_local std::vector<float> memory[2];
  return memory[number];
}

// y[n][h][w][k]
inline void Forward(const Layer& layer, float* y) {
  const Shape& s = layer.shape;
  const std::vector<float> scales = Scales(layer);
  const Panels panels(layer.kernel, s.kh, s.run(), s.k);
  TheTeam().Run(layer.images, [&](int64_t image) {
    const Padded active(s, s.top(), s.left(), &Memory(0));
    Activate(layer, scales, image, active);
    panels.Convolve(active.first(), s, y + image * s.pixels() * s.k);
  });
}

struct Gradients {
  std::vector<float*> maps;
  float *gamma, *beta, *kernel;
};

// Passes the gradient of ReLU on, and adds up what normalisation needs of it.
class NormGradient {
 public:
  NormGradient(const Layer& layer, float* memory)
      : layer_(layer), gradient_(memory), sums_(layer.images, layer.shape.c),
        products_(layer.images, layer.shape.c) {}

  // The gradient of the normalised input of one image [h][w][c], first before ReLU.
  float* image(int64_t image) { return gradient_ + image * layer_.shape.pixels() * layer_.shape.c; }

  void Add(int64_t number, const Padded& active) {
    const int64_t width = layer_.shape.w, c = layer_.shape.c;
    for (int64_t row = 0; row < layer_.shape.h; ++row) {
      float* gradient = image(number) + row * width * c;
      const float* z = active.row(row);
      ForVectors(layer_, number, row, [&](const float* x, const Map& map, int64_t,
                                          int64_t channel, int64_t count) {
        const Vector mean = Load(&layer_.mean[channel], count);
        Vector sum = {}, product = {};
        for (int64_t pixel = 0; pixel < width; ++pixel) {
          float* at = gradient + pixel * c + channel;
          Vector value = Load(at, count);
          if (layer_.relu) {
            value = WherePositive(Load(z + pixel * c + channel, count), value);
            Store(at, value, count);
          }
          sum += value;
          product += value * (Load(x + pixel * map.channels, count) - mean);
        }
        sums_.Add(number, channel, sum, count);
        products_.Add(number, channel, product, count);
      });
    }
  }

  // Write the gradients of scale, offset and maps.
  void Finish(const Gradients& to) {
    const Shape& s = layer_.shape;
    const std::vector<double> sum = sums_.Total(), product = products_.Total();
    const double total = static_cast<double>(layer_.images) * s.pixels();
    std::vector<float> own(s.c), mean(s.c), slope(s.c);
    for (int64_t c = 0; c < s.c; ++c) {
      const double inverse = layer_.InverseDeviation(c), scale = layer_.gamma[c] * inverse;
      to.beta[c] = static_cast<float>(sum[c]);
      to.gamma[c] = static_cast<float>(product[c] * inverse);
      own[c] = static_cast<float>(scale);
      mean[c] = static_cast<float>(scale * sum[c] / total);
      slope[c] = static_cast<float>(scale * inverse * inverse * product[c] / total);
    }
    TheTeam().Run(layer_.images, [&](int64_t number) {
      for (int64_t row = 0; row < s.h; ++row)
        WriteRow(number, row, own, mean, slope, to.maps);
    });
  }

 private:
  void WriteRow(int64_t number, int64_t row, const std::vector<float>& own,
                const std::vector<float>& mean, const std::vector<float>& slope,
                const std::vector<float*>& to) {
    const int64_t width = layer_.shape.w, c = layer_.shape.c;
    const float* gradient = image(number) + row * width * c;
    ForVectors(layer_, number, row, [&](const float* x, const Map& map, int64_t, int64_t channel,
                                        int64_t count) {
      float* out = to[&map - layer_.maps.data()] + (x - map.values);
      const Vector a = Load(&own[channel], count), b = Load(&mean[channel], count);
      const Vector d = Load(&slope[channel], count);
      const Vector center = Load(&layer_.mean[channel], count);
      for (int64_t pixel = 0; pixel < width; ++pixel) {
        const Vector distance = Load(x + pixel * map.channels, count) - center;
        const Vector value = Load(gradient + pixel * c + channel, count);
        Store(out + pixel * map.channels, a * value - b - d * distance, count);
      }
    });
  }

  const Layer& layer_;
  float* gradient_;
  Sums sums_, products_;
};

// Add the filter's gradients of all groups up: dw[kh][kw][c][k].
inline void AddUp(const std::vector<FilterGradient>& groups, const Shape& s, float* kernel) {
  TheTeam().Run(s.kh, [&](int64_t row) {
    for (int64_t at = 0; at < s.run(); ++at)
      for (int64_t k = 0; k < s.k; ++k) {
        float sum = 0.0f;
        for (const FilterGradient& group : groups) sum += group.value(row, at, k);
        kernel[(row * s.run() + at) * s.k + k] = sum;
      }
  });
}

// From the gradient of y; `memory` is kept for the next call.
inline void Backward(const Layer& layer, const float* dy, const Gradients& to,
                     std::vector<float>* memory) {
  const Shape& s = layer.shape;
  const Shape turned = {s.h, s.w, s.k, s.kh, s.kw, s.c};
  const std::vector<float> scales = Scales(layer);
  const Panels panels(Turned(layer.kernel, s).data(), s.kh, turned.run(), s.c);
  const int64_t groups = std::min(layer.images, kGradientGroups);
  std::vector<FilterGradient> filters(groups, FilterGradient(s));
  const size_t needed = layer.images * s.pixels() * s.c;
  if (memory->size() < needed) memory->resize(needed);
  NormGradient norm(layer, memory->data());
  TheTeam().Run(groups, [&](int64_t group) {
    for (int64_t image = Part(layer.images, groups, group);
         image < Part(layer.images, groups, group + 1); ++image) {
      const float* gradient = dy + image * s.pixels() * s.k;
      const Padded active(s, s.top(), s.left(), &Memory(0));
      Activate(layer, scales, image, active);
      filters[group].Add(active.first(), gradient);
      const Padded padded(turned, s.kh - 1 - s.top(), s.kw - 1 - s.left(), &Memory(1));
      padded.Copy(gradient);
      panels.Convolve(padded.first(), turned, norm.image(image));
      norm.Add(image, active);
    }
  });
  AddUp(filters, s, to.kernel);
  norm.Finish(to);
}

}  // namespace sparsenet

#endif  // SPARSENET_NORM_RELU_CONV_H_
