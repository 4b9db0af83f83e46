#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bits.h"
#include "memory/guest_memory.h"

/// Tiny kernels of every kind, made up byte by byte, and the guest memory to load them into.
namespace doppel::test {

using Bytes = std::vector<std::byte>;

inline std::unique_ptr<memory::GuestMemory> make_memory(std::uint64_t mebibytes) {
  return std::move(memory::GuestMemory::create(mebibytes << 20)).value();
}

template <class T>
void put(Bytes& bytes, std::size_t offset, T value) {
  if (bytes.size() < offset + sizeof value) bytes.resize(offset + sizeof value);
  store_le(bytes.data() + offset, value);
}

template <class T>
T get(const memory::GuestMemory& memory, std::uint64_t address) {
  T value{};
  memory.read_value(address, value);
  return value;
}

inline std::string get_string(const memory::GuestMemory& memory, std::uint64_t address) {
  std::string text;
  for (char c; memory.read_value(address, c) && c != 0; ++address) text += c;
  return text;
}

inline Bytes bytes_of(std::string_view text) {
  const auto raw = std::as_bytes(std::span{text});
  return {raw.begin(), raw.end()};
}

inline Bytes pattern(std::size_t size, unsigned seed = 1) {
  Bytes out(size);
  for (std::byte& b : out) b = static_cast<std::byte>((seed = seed * 1664525U + 1013904223U) >> 24);
  return out;
}

/// A bzImage of protocol 2.15: one setup sector, then `system`, the protected-mode part.
struct BzImage {
  std::uint16_t version = 0x20F;
  std::uint16_t xloadflags = 1;
  std::uint8_t loadflags = 1;
  std::uint64_t pref_address = 0x100'0000;
  std::uint32_t init_size = 0x20'0000;
  std::uint32_t initrd_addr_max = 0x7FFF'FFFF;
  std::uint32_t cmdline_size = 64;
  std::uint32_t payload_offset = 0, payload_length = 0;
  Bytes system = pattern(4096);

  Bytes build() const {
    Bytes image(1024);
    put(image, 0x1F1, std::uint8_t{1});
    put(image, 0x1F4, static_cast<std::uint32_t>((system.size() + 15) / 16));
    put(image, 0x1FE, std::uint16_t{0xAA55});
    put(image, 0x200, std::uint16_t{0x6AEB});
    std::copy_n(bytes_of("HdrS").begin(), 4, image.begin() + 0x202);
    put(image, 0x206, version);
    put(image, 0x211, loadflags);
    put(image, 0x22C, initrd_addr_max);
    put(image, 0x230, std::uint32_t{0x20'0000});
    put(image, 0x234, std::uint8_t{1});
    put(image, 0x236, xloadflags);
    put(image, 0x238, cmdline_size);
    put(image, 0x248, payload_offset);
    put(image, 0x24C, payload_length);
    put(image, 0x258, pref_address);
    put(image, 0x260, init_size);
    image.insert(image.end(), system.begin(), system.end());
    return image;
  }
};

/// An ELF executable of one loadable segment and, if `note` is not empty, one note segment.
struct Elf {
  bool wide = true;  ///< ELFCLASS64, x86-64; else ELFCLASS32, i386
  std::uint64_t physical = 0x100'0000;
  std::uint64_t virtual_address = 0xFFFF'FFFF'8100'0000;
  std::uint64_t entry = 0x100'0000;
  std::uint64_t bss = 0x3000;
  Bytes text = pattern(4096, 7);
  Bytes note{};

  Bytes build() const {
    const std::size_t header = wide ? 64 : 52, entry_size = wide ? 56 : 32, text_at = 512;
    Bytes file(text_at);
    std::copy_n(bytes_of("\177ELF").begin(), 4, file.begin());
    put(file, 4, static_cast<std::uint8_t>(wide ? 2 : 1));
    put(file, 5, std::uint8_t{1});
    put(file, 6, std::uint8_t{1});
    put(file, 16, std::uint16_t{2});
    put(file, 18, static_cast<std::uint16_t>(wide ? 62 : 3));
    put(file, 20, std::uint32_t{1});
    put_word(file, 24, entry);
    put_word(file, wide ? 32 : 28, header);
    put(file, wide ? 54 : 42, static_cast<std::uint16_t>(entry_size));
    put(file, wide ? 56 : 44, static_cast<std::uint16_t>(note.empty() ? 1 : 2));
    put_program_header(file, header, 1, text_at, text.size(), text.size() + bss);
    if (!note.empty()) {
      put_program_header(file, header + entry_size, 4, text_at + text.size(), note.size(), note.size());
    }
    file.insert(file.end(), text.begin(), text.end());
    file.insert(file.end(), note.begin(), note.end());
    return file;
  }

 private:
  void put_word(Bytes& file, std::size_t offset, std::uint64_t value) const {
    if (wide) {
      put(file, offset, value);
    } else {
      put(file, offset, static_cast<std::uint32_t>(value));
    }
  }
  void put_program_header(Bytes& file, std::size_t at, std::uint32_t type, std::uint64_t offset,
                          std::uint64_t file_size, std::uint64_t memory_size) const {
    const std::size_t word = wide ? 8 : 4, first = at + word;
    put(file, at, type);
    put_word(file, first, offset);
    put_word(file, first + word, virtual_address);
    put_word(file, first + 2 * word, physical);
    put_word(file, first + 3 * word, file_size);
    put_word(file, first + 4 * word, memory_size);
  }
};

/// An ELF note; `owner` without its terminating zero.
inline Bytes make_note(std::string_view owner, std::uint32_t type, const Bytes& description) {
  Bytes note;
  put(note, 0, static_cast<std::uint32_t>(owner.size() + 1));
  put(note, 4, static_cast<std::uint32_t>(description.size()));
  put(note, 8, type);
  const Bytes name = bytes_of(owner);
  note.insert(note.end(), name.begin(), name.end());
  note.resize(align_up(note.size() + 1, 4));
  note.insert(note.end(), description.begin(), description.end());
  note.resize(align_up(note.size(), 4));
  return note;
}

inline Elf pvh_elf(std::uint32_t entry = 0x100'0010) {
  Bytes description;
  put(description, 0, std::uint64_t{entry});
  Elf elf;
  elf.note = make_note("Xen", 18, description);
  return elf;
}

/// The three words every Multiboot header begins with, put at `offset`.
inline void put_multiboot_header(Bytes& file, std::size_t offset, std::uint32_t flags) {
  put(file, offset, std::uint32_t{0x1BAD'B002});
  put(file, offset + 4, flags);
  put(file, offset + 8, static_cast<std::uint32_t>(0 - 0x1BAD'B002U - flags));
}

inline Bytes multiboot_elf(std::uint32_t flags = 3) {
  Elf elf;
  elf.wide = false;
  elf.physical = 0x10'0000;
  elf.virtual_address = 0xC010'0000;
  elf.entry = 0xC010'0020;
  put_multiboot_header(elf.text, 0, flags);
  return elf.build();
}

/// A flat binary that is loaded by the addresses in its header.
inline Bytes multiboot_flat() {
  constexpr std::uint32_t kLoad = 0x20'0000, kHeaderAt = 64;
  Bytes file = pattern(4096, 9);
  put_multiboot_header(file, kHeaderAt, 0x1'0003);
  put(file, kHeaderAt + 12, kLoad + kHeaderAt);
  put(file, kHeaderAt + 16, kLoad);
  put(file, kHeaderAt + 20, kLoad + 2048U);
  put(file, kHeaderAt + 24, kLoad + 0x4000U);
  put(file, kHeaderAt + 28, kLoad + 0x100U);
  return file;
}

/// Calls `load` with every beginning of `file`, and with every byte of its first `header` bytes set to 0, FFh and
/// flipped. What must hold for each result is up to `load`; here only that nothing crashes.
template <class Load>
void damage(const Bytes& file, std::size_t header, Load load) {
  for (std::size_t length = 0; length < file.size(); ++length) load(std::span{file}.first(length));
  for (std::size_t i = 0; i < std::min(header, file.size()); ++i) {
    for (const std::byte value : {std::byte{0}, std::byte{0xFF}, file[i] ^ std::byte{0x80}, file[i] ^ std::byte{1}}) {
      Bytes copy = file;
      copy[i] = value;
      load(std::span{copy});
    }
  }
}

}  // namespace doppel::test
