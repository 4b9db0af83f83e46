#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/dbt/block_observer.h"

namespace doppel::engine::lockstep {

/// The blocks that ran last, and how what they are made of looks to people.
class History {
 public:
  struct Run {
    std::uint64_t number = 0;  ///< of the block, since the machine began
    std::uint64_t rip = 0, next = 0;
    std::uint64_t cr3 = 0;
    std::uint16_t instructions = 0;
    std::uint8_t cpl = 0;
    bool compared = false, branched = false;
  };

  void add(const Run& run) { runs_[count_++ % runs_.size()] = run; }
  /// The oldest first, a line each.
  std::vector<std::string> lines() const;

 private:
  std::array<Run, 32> runs_{};
  std::size_t count_ = 0;
};

}  // namespace doppel::engine::lockstep
