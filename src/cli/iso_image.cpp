// ECMA-119 (ISO 9660), with the System Use Sharing Protocol and Rock Ridge for names as they are.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/bits.h"
#include "cli/seed.h"

namespace doppel::cli {
namespace {

constexpr std::size_t kSector = 2048;
constexpr std::size_t kDescriptor = 16, kTerminator = 17, kPathTable = 18, kBigEndianPathTable = 19, kRoot = 20,
                      kFirstFile = 21;
constexpr std::uint8_t kDirectoryFlag = 2;
constexpr std::uint32_t kDirectoryMode = 040555, kFileMode = 0100444;

class Bytes {
 public:
  explicit Bytes(std::size_t sectors) : bytes_(sectors * kSector) {}

  void put(std::size_t at, std::string_view text) { std::memcpy(&bytes_[at], text.data(), text.size()); }
  void put8(std::size_t at, unsigned value) { bytes_[at] = static_cast<std::byte>(value); }
  void put32(std::size_t at, std::uint32_t value) { store_le(&bytes_[at], value); }
  void put32_big(std::size_t at, std::uint32_t value) {
    for (unsigned i = 0; i < 4; ++i) put8(at + i, value >> (24 - 8 * i) & 0xFF);
  }
  /// Numbers that stand there in both byte orders (7.3.3, 7.2.3).
  void both32(std::size_t at, std::uint32_t value) {
    put32(at, value);
    put32_big(at + 4, value);
  }
  void both16(std::size_t at, unsigned value) {
    put8(at, value & 0xFF);
    put8(at + 1, value >> 8);
    put8(at + 2, value >> 8);
    put8(at + 3, value & 0xFF);
  }
  void fill(std::size_t at, std::size_t size, char with) { std::memset(&bytes_[at], with, size); }
  std::vector<std::byte> take() && { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

struct Record {
  std::string_view identifier;
  std::uint32_t sector;
  std::uint32_t size;
  bool directory;
  std::string system_use{};
};

std::string both32(std::uint32_t value) {
  std::string text(8, '\0');
  for (unsigned i = 0; i < 4; ++i) text[i] = text[7 - i] = static_cast<char>(value >> (8 * i) & 0xFF);
  return text;
}

/// SUSP 5: signature, length, version, data.
std::string entry(std::string_view signature, std::string_view data) {
  std::string text(signature);
  text += static_cast<char>(data.size() + 4);
  text += '\1';
  return text.append(data);
}

/// POSIX attributes: mode, links, user, group.
std::string attributes(std::uint32_t mode) {
  return entry("PX", both32(mode) + both32(1) + both32(0) + both32(0));
}

/// 9.1; returns where the next one begins.
std::size_t put_record(Bytes& bytes, std::size_t at, const Record& record) {
  const std::size_t name_end = align_up(33 + record.identifier.size(), 2);
  const std::size_t length = align_up(name_end + record.system_use.size(), 2);
  bytes.put8(at, static_cast<unsigned>(length));
  bytes.both32(at + 2, record.sector);
  bytes.both32(at + 10, record.size);
  bytes.put8(at + 18, 100);  // years since 1900
  bytes.put8(at + 19, 1);
  bytes.put8(at + 20, 1);
  bytes.put8(at + 25, record.directory ? kDirectoryFlag : 0);
  bytes.both16(at + 28, 1);
  bytes.put8(at + 32, static_cast<unsigned>(record.identifier.size()));
  bytes.put(at + 33, record.identifier);
  bytes.put(at + name_end, record.system_use);
  return at + length;
}

/// 8.4
void put_volume_descriptor(Bytes& bytes, const std::string& label, std::size_t sectors) {
  const std::size_t at = kDescriptor * kSector;
  bytes.put8(at, 1);
  bytes.put(at + 1, std::string_view("CD001\1", 6));
  bytes.fill(at + 8, 64, ' ');
  bytes.put(at + 40, std::string_view(label).substr(0, 32));
  bytes.both32(at + 80, static_cast<std::uint32_t>(sectors));
  bytes.both16(at + 120, 1);
  bytes.both16(at + 124, 1);
  bytes.both16(at + 128, kSector);
  bytes.both32(at + 132, 10);
  bytes.put32(at + 140, kPathTable);
  bytes.put32_big(at + 148, kBigEndianPathTable);
  put_record(bytes, at + 156, {std::string_view("\0", 1), kRoot, kSector, true});
  bytes.fill(at + 190, 623, ' ');
  for (std::size_t date = at + 813; date < at + 881; date += 17) bytes.fill(date, 16, '0');
  bytes.put8(at + 881, 1);
  bytes.put8(kTerminator * kSector, 0xFF);
  bytes.put(kTerminator * kSector + 1, std::string_view("CD001\1", 6));
}

}  // namespace

std::vector<std::byte> make_iso_image(const std::string& label,
                                      const std::vector<std::pair<std::string, std::string>>& files) {
  const auto sectors_of = [](const std::string& text) { return (text.size() + kSector - 1) / kSector; };
  std::size_t sectors = kFirstFile;
  for (const auto& [name, contents] : files) sectors += sectors_of(contents);
  Bytes bytes(sectors);
  put_volume_descriptor(bytes, label, sectors);
  // 9.4: the root is the only directory.
  for (const std::size_t table : {kPathTable, kBigEndianPathTable}) {
    bytes.put8(table * kSector, 1);
    table == kPathTable ? bytes.put32(table * kSector + 2, kRoot) : bytes.put32_big(table * kSector + 2, kRoot);
    bytes.put8(table * kSector + (table == kPathTable ? 6 : 7), 1);
  }
  constexpr std::string_view kRockRidge = "RRIP_1991A";
  const std::string extension = std::string{static_cast<char>(kRockRidge.size()), 0, 0, 1} + std::string(kRockRidge);
  const std::string self = entry("SP", std::string_view("\xBE\xEF\0", 3)) + attributes(kDirectoryMode);
  std::size_t at = kRoot * kSector;
  at = put_record(bytes, at, {std::string_view("\0", 1), kRoot, kSector, true, self + entry("ER", extension)});
  at = put_record(bytes, at, {"\1", kRoot, kSector, true, attributes(kDirectoryMode)});
  std::size_t sector = kFirstFile;
  std::string identifier = "A.;1";
  for (const auto& [name, contents] : files) {
    at = put_record(bytes, at,
                    {identifier, static_cast<std::uint32_t>(sector), static_cast<std::uint32_t>(contents.size()), false,
                     attributes(kFileMode) + entry("NM", std::string(1, '\0') + name)});
    ++identifier.front();
    bytes.put(sector * kSector, contents);
    sector += sectors_of(contents);
  }
  return std::move(bytes).take();
}

}  // namespace doppel::cli
