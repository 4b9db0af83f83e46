#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/bits.h"

namespace doppel::boot::acpi {

/// The bytes of one system description table under construction: the 36-byte header (ACPI 6.5, 5.2.6) and what follows.
class Table {
 public:
  /// `signature` has four characters.
  Table(std::string_view signature, std::uint8_t revision);

  template <class T>
  Table& add(T value) {
    bytes_.resize(bytes_.size() + sizeof value);
    store_le(bytes_.data() + bytes_.size() - sizeof value, value);
    return *this;
  }
  Table& add_bytes(std::span<const std::uint8_t> bytes);
  Table& add_zeros(std::size_t count);

  /// The table with length and checksum filled in.
  std::vector<std::uint8_t> finish() const;

 private:
  std::vector<std::uint8_t> bytes_;
};

/// The six and eight characters by which all of our tables name their maker.
inline constexpr std::string_view kOemId = "DOPPEL", kOemTableId = "DOPPELVM", kCreatorId = "DOPL";

/// The Generic Address Structure (ACPI 6.5, 5.2.3.2).
enum class AddressSpace : std::uint8_t { SystemMemory = 0, SystemIo = 1 };
struct [[gnu::packed]] GenericAddress {
  AddressSpace space = AddressSpace::SystemMemory;
  std::uint8_t bit_width = 0;
  std::uint8_t bit_offset = 0;
  std::uint8_t access_size = 0;  ///< 1 byte, 2 word, 3 dword, 4 qword
  std::uint64_t address = 0;
};
static_assert(sizeof(GenericAddress) == 12);

}  // namespace doppel::boot::acpi
