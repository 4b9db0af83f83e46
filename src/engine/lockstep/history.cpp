#include "engine/lockstep/history.h"

#include <fmt/format.h>

#include <algorithm>

namespace doppel::engine::lockstep {

std::vector<std::string> History::lines() const {
  std::vector<std::string> lines;
  const std::size_t shown = std::min(count_, runs_.size());
  for (std::size_t i = count_ - shown; i < count_; ++i) {
    const Run& run = runs_[i % runs_.size()];
    lines.push_back(fmt::format("#{} {:016x} CPL {} CR3 {:x}: {} instructions, {} {:016x}{}", run.number, run.rip,
                                run.cpl, run.cr3, run.instructions, run.branched ? "then to" : "left at", run.next,
                                run.compared ? "" : ", not compared"));
  }
  return lines;
}

}  // namespace doppel::engine::lockstep
