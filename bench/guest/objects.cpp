// Virtual calls: shapes in an order that no branch predictor foresees.
#include <array>
#include <memory>
#include <vector>

#include "suite.h"

namespace {

struct Shape {
  virtual ~Shape() = default;
  virtual std::uint64_t area() const = 0;
};

template <int kKind>
struct Figure : Shape {
  explicit Figure(std::uint64_t s) : side(s) {}
  std::uint64_t area() const override { return side * side * (kKind + 1) / 4; }
  std::uint64_t side;
};

constexpr int kShapes = 4096;
std::vector<std::unique_ptr<Shape>> shapes;

void prepare() {
  std::uint64_t random = 7;
  shapes.clear();
  for (int i = 0; i < kShapes; ++i) {
    const std::uint64_t side = next_random(&random) % 1000;
    switch (next_random(&random) % 4) {
      case 0:
        shapes.push_back(std::make_unique<Figure<0>>(side));
        break;
      case 1:
        shapes.push_back(std::make_unique<Figure<1>>(side));
        break;
      case 2:
        shapes.push_back(std::make_unique<Figure<2>>(side));
        break;
      default:
        shapes.push_back(std::make_unique<Figure<3>>(side));
        break;
    }
  }
}

std::uint64_t run() {
  std::uint64_t sum = 0;
  for (const auto& shape : shapes) sum = sum * 3 + shape->area();
  return sum;
}

}  // namespace

extern "C" const Row kObjectRows[] = {
    {"integer.virtual-calls", "ns/call", kShapes, prepare, run, 0, nullptr},
    {},
};
