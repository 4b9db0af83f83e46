#include "engine/lockstep/history.h"

#include <Zydis/Zydis.h>
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

std::vector<std::string> disassemble(std::span<const std::byte> bytes, std::uint64_t address, bool code_64) {
  std::vector<std::string> lines;
  const ZydisMachineMode mode = code_64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32;
  while (!bytes.empty()) {
    ZydisDisassembledInstruction shown;
    std::size_t length = 1;
    std::string text = "(bad)";
    if (ZYAN_SUCCESS(ZydisDisassembleIntel(mode, address, bytes.data(), bytes.size(), &shown))) {
      length = shown.info.length;
      text = shown.text;
    }
    lines.push_back(fmt::format("{:016x}  {}", address, text));
    bytes = bytes.subspan(length);
    address += length;
  }
  return lines;
}

}  // namespace doppel::engine::lockstep
