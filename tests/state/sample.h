#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/ring.h"
#include "state/visitor.h"

namespace doppel::test {

/// A component with a field of every kind.
struct Sample {
  enum class Mode : std::uint8_t { Idle, Busy };
  struct Part {
    std::uint32_t base = 1;
    std::int16_t step = -2;
    void describe(state::Visitor& v) {
      v.field(1, "base", base);
      v.field(2, "step", step);
    }
  };

  bool enabled = false;
  std::uint8_t ier = 0;
  std::int64_t offset = -1;
  Mode mode = Mode::Idle;
  std::array<std::uint16_t, 3> counter{1, 2, 3};
  std::array<Part, 2> parts{};
  Part part;
  std::array<std::byte, 4> fixed{};
  std::vector<std::byte> blob;
  std::string label = "label";
  Ring<std::uint16_t, 4> fifo;

  int loaded = 0;  ///< how often on_loaded ran; not state

  void describe(state::Visitor& v) {
    v.field(1, "enabled", enabled);
    v.field(2, "ier", ier);
    v.field(3, "offset", offset);
    v.field(4, "mode", mode);
    v.require(mode <= Mode::Busy, "no such mode");
    v.field(5, "counter", counter);
    v.field(6, "parts", parts);
    v.field(7, "part", part);
    v.field(9, "fixed", std::span<std::byte>(fixed));
    v.field(10, "blob", blob);
    v.field(11, "label", label);
    v.field(12, "fifo", fifo);
    v.on_loaded([this] { ++loaded; });
  }

  void reset() {
    const int kept = loaded;
    *this = Sample{};
    loaded = kept;
  }

  void use() {
    enabled = true;
    ier = 0xA5;
    offset = -1'000'000'000'000;
    mode = Mode::Busy;
    counter = {7, 0, 0xFFFF};
    parts[1].step = 5;
    part.base = 0xDEADBEEF;
    fixed[3] = std::byte{9};
    blob.assign(5, std::byte{0x42});
    label = "caf\xC3\xA9\n";
    for (std::uint16_t i = 1; i <= 4; ++i) fifo.push(i);
    fifo.pop();
    fifo.push(5);
  }
};

}  // namespace doppel::test
