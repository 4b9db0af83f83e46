#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "x86/cpu_state.h"

namespace doppel::debug {

/// Which registers a debugger sees, in which order and size: the standard features of GDB's i386 targets ("Target
/// Descriptions", i386 Features), and one of our own for control registers. Immutable.
class RegisterLayout {
 public:
  enum class Architecture : std::uint8_t { I386, X86_64 };

  explicit RegisterLayout(Architecture architecture);

  /// I386 for a guest that has switched on paging without long mode; X86_64 for all others, those still booting
  /// included.
  static Architecture architecture_of(const x86::CpuState& state);

  std::size_t size() const { return registers_.size(); }
  /// target.xml.
  std::string description() const;

  /// The register's bytes, little-endian.
  std::vector<std::byte> read(const x86::CpuState& state, std::size_t number) const;
  std::vector<std::byte> read_all(const x86::CpuState& state) const;
  /// False when it has another size or may not be set: selectors and control registers, whose change would leave
  /// hidden state behind, and values that the architecture forbids.
  bool write(x86::CpuState& state, std::size_t number, std::span<const std::byte> bytes) const;
  /// All registers that may be set; false when the sizes do not add up.
  bool write_all(x86::CpuState& state, std::span<const std::byte> bytes) const;

 private:
  enum class Kind : std::uint8_t { Gpr, Rip, Flags, Selector, St, X87, Xmm, Mxcsr, Base, YmmHigh, Control };
  struct Register {
    std::string name;
    Kind kind;
    unsigned index;
    unsigned bits;
    std::string type;
    std::size_t bytes() const { return bits / 8; }
  };
  struct Feature {
    std::string name;
    std::string types;  ///< XML that defines them
    std::size_t end;    ///< one past its last register
  };

  void add(std::string name, Kind kind, unsigned index, unsigned bits, std::string type);
  void end_feature(std::string name, std::string types = {});
  void add_core();
  void add_vectors();
  void add_system();
  bool is_64() const { return architecture_ == Architecture::X86_64; }

  Architecture architecture_;
  std::vector<Register> registers_;
  std::vector<Feature> features_;
};

}  // namespace doppel::debug
