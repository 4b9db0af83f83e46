#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "isa/insn.h"
#include "x86/cpu.h"

namespace doppel::engine::lockstep {

/// What instructions are about to write to guest memory, worked out before they do; so it can be taken back, and
/// compared with what another engine makes of the same instructions. One vCPU's thread, while no other runs.
class WriteLog {
 public:
  explicit WriteLog(memory::GuestMemory& memory) : memory_(memory) {}

  void clear();
  /// Notes what the instruction at RIP will write, as number `step`. False when that cannot be told beforehand, or
  /// cannot be taken back: it is not RAM, or code.
  bool note(x86::Cpu& cpu, const isa::Insn& insn, unsigned step);
  /// The instruction noted last has been executed.
  void executed();

  /// Memory is as it was before the first instruction.
  void undo();
  /// After undo() another engine has executed the first `steps` instructions. What it wrote otherwise, a line each;
  /// nothing when all is the same.
  std::vector<std::string> differences(unsigned steps) const;

 private:
  struct Entry {
    x86::LinearAddress linear;
    std::byte* host;
    unsigned step;
    std::size_t at;  ///< of its bytes, in old_ and new_
    std::size_t size;
  };

  bool note_range(x86::Cpu& cpu, x86::LinearAddress linear, std::uint64_t size, unsigned step);

  memory::GuestMemory& memory_;
  std::vector<Entry> entries_;
  std::vector<std::byte> old_, new_;
  std::size_t executed_ = 0;  ///< entries whose new bytes are known
};

}  // namespace doppel::engine::lockstep
