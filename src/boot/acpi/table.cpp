#include "boot/acpi/table.h"

#include "boot/checksum.h"

namespace doppel::boot::acpi {
namespace {

constexpr std::size_t kLengthOffset = 4, kChecksumOffset = 9;

std::span<const std::uint8_t> characters(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}

}  // namespace

Table::Table(std::string_view signature, std::uint8_t revision) {
  add_bytes(characters(signature)).add(std::uint32_t{0}).add(revision).add(std::uint8_t{0});
  add_bytes(characters(kOemId)).add_bytes(characters(kOemTableId)).add(std::uint32_t{1});
  add_bytes(characters(kCreatorId)).add(std::uint32_t{1});
}

Table& Table::add_bytes(std::span<const std::uint8_t> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

Table& Table::add_zeros(std::size_t count) {
  bytes_.resize(bytes_.size() + count);
  return *this;
}

std::vector<std::uint8_t> Table::finish() const {
  std::vector<std::uint8_t> out = bytes_;
  store_le(out.data() + kLengthOffset, static_cast<std::uint32_t>(out.size()));
  out[kChecksumOffset] = checksum(out);
  return out;
}

}  // namespace doppel::boot::acpi
