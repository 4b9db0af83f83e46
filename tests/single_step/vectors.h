#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

/// Hardware-captured tests of single instructions, as SingleStepTests publishes them: MOO files (version 1.1 of its
/// specification) and JSON.
namespace doppel::single_step {

/// In the order of MOO's RG32.
enum Register : std::uint8_t {
  kCr0,
  kCr3,
  kEax,
  kEbx,
  kEcx,
  kEdx,
  kEsi,
  kEdi,
  kEbp,
  kEsp,
  kCs,
  kDs,
  kEs,
  kFs,
  kGs,
  kSs,
  kEip,
  kEflags,
  kDr6,
  kDr7,
  kRegisters
};

struct Registers {
  std::array<std::uint32_t, kRegisters> value{};
  std::uint32_t present = 0;  ///< by Register

  bool has(unsigned reg) const { return (present >> reg & 1) != 0; }
  void set(unsigned reg, std::uint32_t to) {
    value[reg] = to;
    present |= 1U << reg;
  }
};

struct Snapshot {
  Registers registers;
  std::vector<std::pair<std::uint32_t, std::uint8_t>> ram;
};

struct Vector {
  std::uint32_t index = 0;
  std::string name;
  std::vector<std::uint8_t> bytes;
  Snapshot initial, final;
  Registers masks;                            ///< bits that are defined, where the file tells
  std::optional<std::uint8_t> exception;      ///< or interrupt
  std::optional<std::uint32_t> pushed_flags;  ///< where that has pushed FLAGS
  std::string hash;                           ///< of lists of revoked tests
};

struct VectorFile {
  std::string cpu;  ///< MOO's ID; empty where the file does not tell
  std::vector<Vector> vectors;
};

/// A .moo or .json file, or one that gzip has compressed.
Result<VectorFile> read_vectors(const std::string& path);

}  // namespace doppel::single_step
