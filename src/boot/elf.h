#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "boot/ram_plan.h"

namespace doppel::boot {

enum class ElfMachine : std::uint16_t { I386 = 3, X86_64 = 62 };

/// A program header, 32-bit ones widened (System V ABI, chapter 5).
struct ElfSegment {
  static constexpr std::uint32_t kLoad = 1, kNote = 4;

  std::uint32_t type = 0;
  std::uint64_t offset = 0;
  std::uint64_t virtual_address = 0;
  std::uint64_t physical_address = 0;
  std::uint64_t file_size = 0;
  std::uint64_t memory_size = 0;
};

/// An executable x86 ELF file, 32- or 64-bit. Refers to the file's bytes, which must outlive it. parse() has checked
/// that every loadable segment and note lies inside the file.
class ElfFile {
 public:
  /// Anything that is not a little-endian x86 executable, or is truncated, is an error.
  static Result<ElfFile> parse(std::span<const std::byte> file);

  ElfMachine machine() const { return machine_; }
  /// As in the header, which for Linux is a physical address and for other kernels a virtual one.
  std::uint64_t entry() const { return entry_; }
  std::span<const ElfSegment> segments() const { return segments_; }
  /// The part of the file that a segment holds.
  std::span<const std::byte> contents(const ElfSegment& segment) const;

  /// The description of the first note of this owner and type, if any.
  std::optional<std::span<const std::byte>> find_note(std::string_view owner, std::uint32_t type) const;

  /// Whether `address` lies in the file's part of a loadable segment, by physical address.
  bool loads_at(std::uint64_t address) const;
  /// The physical address of a virtual one, by the segment that holds it.
  std::optional<std::uint64_t> physical(std::uint64_t virtual_address) const;

  /// Claims the place of every loadable segment, copies it there and zeroes the rest of it.
  Result<void> load(RamPlan& plan) const;

 private:
  std::span<const std::byte> file_;
  ElfMachine machine_ = ElfMachine::X86_64;
  std::uint64_t entry_ = 0;
  std::vector<ElfSegment> segments_;
};

}  // namespace doppel::boot
