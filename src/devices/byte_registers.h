#pragma once

#include <cstdint>

#include "bus/io_bus.h"

namespace doppel::devices {

/// A block of 8-bit registers, as ISA devices have them. The bus controller splits wider accesses into bytes, lowest
/// address first.
class ByteRegisters : public bus::IoHandler {
 public:
  std::uint64_t read(std::uint64_t offset, unsigned size) final {
    std::uint64_t value = 0;
    for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{read_byte(offset + i)} << (8 * i);
    return value;
  }
  void write(std::uint64_t offset, unsigned size, std::uint64_t value) final {
    for (unsigned i = 0; i < size; ++i) write_byte(offset + i, static_cast<std::uint8_t>(value >> (8 * i)));
  }

 protected:
  virtual std::uint8_t read_byte(std::uint64_t offset) = 0;
  virtual void write_byte(std::uint64_t offset, std::uint8_t value) = 0;
};

/// A ByteRegisters block that is one of several of its device.
template <class Owner>
class MemberRegisters : public ByteRegisters {
 public:
  using Read = std::uint8_t (Owner::*)(std::uint64_t offset);
  using Write = void (Owner::*)(std::uint64_t offset, std::uint8_t value);

  MemberRegisters(Owner& owner, Read read, Write write) : owner_(owner), read_(read), write_(write) {}

 protected:
  std::uint8_t read_byte(std::uint64_t offset) override { return (owner_.*read_)(offset); }
  void write_byte(std::uint64_t offset, std::uint8_t value) override { (owner_.*write_)(offset, value); }

 private:
  Owner& owner_;
  Read read_;
  Write write_;
};

}  // namespace doppel::devices
