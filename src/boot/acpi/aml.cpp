#include "boot/acpi/aml.h"

#include <algorithm>
#include <iterator>

namespace doppel::boot::acpi::aml {
namespace {

/// Opcodes; ACPI 6.5, table 20.2.
constexpr std::uint8_t kZeroOp = 0x00, kOneOp = 0x01, kNameOp = 0x08, kBytePrefix = 0x0A, kWordPrefix = 0x0B,
                       kDwordPrefix = 0x0C, kStringPrefix = 0x0D, kQwordPrefix = 0x0E, kScopeOp = 0x10,
                       kBufferOp = 0x11, kPackageOp = 0x12, kMethodOp = 0x14, kDualNamePrefix = 0x2E,
                       kMultiNamePrefix = 0x2F, kExtOpPrefix = 0x5B, kDeviceOp = 0x82, kNotifyOp = 0x86;
constexpr std::size_t kSegmentLength = 4;

void append(Bytes& to, const Bytes& more) {
  std::copy(more.begin(), more.end(), std::back_inserter(to));
}

template <class T>
void append_le(Bytes& to, T value) {
  for (unsigned i = 0; i < sizeof(T); ++i) to.push_back(static_cast<std::uint8_t>(std::uint64_t{value} >> (8 * i)));
}

/// PkgLength counts itself: 6 bits in one byte, or 4 bits and one to three more bytes.
Bytes package_length(std::size_t contents) {
  if (contents + 1 < 0x40) return {static_cast<std::uint8_t>(contents + 1)};
  unsigned more = 1;
  while (contents + 1 + more >= std::size_t{1} << (4 + 8 * more)) ++more;
  const std::size_t length = contents + 1 + more;
  Bytes out{static_cast<std::uint8_t>(more << 6 | (length & 0xF))};
  for (unsigned i = 0; i < more; ++i) out.push_back(static_cast<std::uint8_t>(length >> (4 + 8 * i)));
  return out;
}

/// An opcode, the length of what follows, and what follows.
Bytes sized(std::initializer_list<std::uint8_t> opcode, std::initializer_list<Bytes> contents) {
  const Bytes body = concat(contents);
  Bytes out(opcode);
  append(out, package_length(body.size()));
  append(out, body);
  return out;
}

/// Address space descriptors (6.4.3.5): the same fields in three widths.
constexpr std::uint8_t kMemoryRange = 0, kIoRange = 1, kBusRange = 2;
template <class T>
Bytes address_space(std::uint8_t tag, std::uint8_t resource, std::uint8_t type_flags, T first, T last) {
  // Bits 2 and 3: both limits are fixed. Consumer bit 0 is clear: the range is produced for child devices.
  constexpr std::uint8_t kFixedLimits = 0x0C;
  Bytes fields{resource, kFixedLimits, type_flags};
  for (const T value : {T{0}, first, last, T{0}, static_cast<T>(last - first + 1)}) append_le(fields, value);
  Bytes out{tag};
  append_le(out, static_cast<std::uint16_t>(fields.size()));
  append(out, fields);
  return out;
}

}  // namespace

Bytes concat(std::initializer_list<Bytes> terms) {
  Bytes out;
  for (const Bytes& term : terms) append(out, term);
  return out;
}

Bytes name_string(std::string_view path) {
  Bytes prefix, segments;
  while (!path.empty() && (path.front() == '\\' || path.front() == '^')) {
    prefix.push_back(static_cast<std::uint8_t>(path.front()));
    path.remove_prefix(1);
  }
  std::size_t count = 0;
  while (!path.empty()) {
    const std::string_view segment = path.substr(0, path.find('.'));
    for (std::size_t i = 0; i < kSegmentLength; ++i)
      segments.push_back(static_cast<std::uint8_t>(i < segment.size() ? segment[i] : '_'));
    path.remove_prefix(std::min(segment.size() + 1, path.size()));
    ++count;
  }
  if (count == 0) prefix.push_back(0);
  if (count == 2) prefix.push_back(kDualNamePrefix);
  if (count > 2) {
    prefix.push_back(kMultiNamePrefix);
    prefix.push_back(static_cast<std::uint8_t>(count));
  }
  append(prefix, segments);
  return prefix;
}

Bytes integer(std::uint64_t value) {
  if (value == 0) return {kZeroOp};
  if (value == 1) return {kOneOp};
  Bytes out;
  if (value <= 0xFF) {
    out.push_back(kBytePrefix);
    append_le(out, static_cast<std::uint8_t>(value));
  } else if (value <= 0xFFFF) {
    out.push_back(kWordPrefix);
    append_le(out, static_cast<std::uint16_t>(value));
  } else if (value <= 0xFFFF'FFFF) {
    out.push_back(kDwordPrefix);
    append_le(out, static_cast<std::uint32_t>(value));
  } else {
    out.push_back(kQwordPrefix);
    append_le(out, value);
  }
  return out;
}

Bytes string(std::string_view text) {
  Bytes out{kStringPrefix};
  std::copy(text.begin(), text.end(), std::back_inserter(out));
  out.push_back(0);
  return out;
}

Bytes package(const std::vector<Bytes>& elements) {
  Bytes contents{static_cast<std::uint8_t>(elements.size())};
  for (const Bytes& element : elements) append(contents, element);
  return sized({kPackageOp}, {contents});
}

Bytes package(std::initializer_list<Bytes> elements) {
  return package(std::vector<Bytes>(elements));
}

Bytes buffer(const Bytes& contents) {
  return sized({kBufferOp}, {integer(contents.size()), contents});
}

Bytes eisa_id(std::string_view id) {
  // Three letters of 5 bits and four hexadecimal digits, big-endian (ACPI 6.5, 19.6.38).
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 3; ++i) value = value << 5 | static_cast<std::uint32_t>(id[i] - 0x40);
  for (std::size_t i = 3; i < 7; ++i) {
    const char digit = id[i];
    value = value << 4 | static_cast<std::uint32_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
  }
  Bytes out{kDwordPrefix};
  for (unsigned i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(value >> (24 - 8 * i)));
  return out;
}

Bytes name(std::string_view path, const Bytes& value) {
  return concat({{kNameOp}, name_string(path), value});
}

Bytes scope(std::string_view path, const Bytes& terms) {
  return sized({kScopeOp}, {name_string(path), terms});
}

Bytes device(std::string_view path, const Bytes& terms) {
  return sized({kExtOpPrefix, kDeviceOp}, {name_string(path), terms});
}

Bytes method(std::string_view path, const Bytes& terms) {
  return sized({kMethodOp}, {name_string(path), {0}, terms});
}

Bytes osc_granting(std::uint32_t grantable) {
  constexpr std::uint8_t kCreateDwordField = 0x8A, kAnd = 0x7B, kReturn = 0xA4, kArg3 = 0x6B,
                         kArgumentsSerialized = 4 | 1 << 3;
  constexpr std::uint64_t kControlOffset = 8;
  const Bytes control = name_string("CDW3");
  return sized({kMethodOp}, {name_string("_OSC"),
                             {kArgumentsSerialized},
                             {kCreateDwordField, kArg3},
                             integer(kControlOffset),
                             control,
                             {kAnd},
                             control,
                             integer(grantable),
                             control,
                             {kReturn, kArg3}});
}

Bytes notify(std::string_view object, std::uint64_t value) {
  return concat({{kNotifyOp}, name_string(object), integer(value)});
}

Bytes resource_template(std::initializer_list<Bytes> descriptors) {
  // The end tag's checksum may be zero: "treated as if correct".
  return buffer(concat({concat(descriptors), {0x79, 0x00}}));
}

Bytes io(std::uint16_t base, std::uint8_t length) {
  Bytes out{0x47, 0x01};
  append_le(out, base);
  append_le(out, base);
  out.push_back(1);
  out.push_back(length);
  return out;
}

Bytes irq_no_flags(unsigned irq) {
  Bytes out{0x22};
  append_le(out, static_cast<std::uint16_t>(1U << irq));
  return out;
}

Bytes dma(unsigned channel) {
  constexpr std::uint8_t kBusMaster = 1 << 2, kTransfer8And16 = 1;
  return {0x2A, static_cast<std::uint8_t>(1U << channel), kBusMaster | kTransfer8And16};
}

Bytes memory32_fixed(std::uint32_t base, std::uint32_t length, bool writable) {
  Bytes out{0x86, 0x09, 0x00, static_cast<std::uint8_t>(writable ? 1 : 0)};
  append_le(out, base);
  append_le(out, length);
  return out;
}

Bytes word_bus_number(std::uint16_t first, std::uint16_t last) {
  return address_space<std::uint16_t>(0x88, kBusRange, 0, first, last);
}

Bytes word_io(std::uint16_t first, std::uint16_t last) {
  constexpr std::uint8_t kEntireRange = 3;
  return address_space<std::uint16_t>(0x88, kIoRange, kEntireRange, first, last);
}

Bytes dword_memory(std::uint32_t first, std::uint32_t last) {
  constexpr std::uint8_t kReadWrite = 1;
  return address_space<std::uint32_t>(0x87, kMemoryRange, kReadWrite, first, last);
}

Bytes qword_memory(std::uint64_t first, std::uint64_t last) {
  constexpr std::uint8_t kReadWriteCacheable = 3;
  return address_space<std::uint64_t>(0x8A, kMemoryRange, kReadWriteCacheable, first, last);
}

}  // namespace doppel::boot::acpi::aml
