#pragma once

#include <cstdint>

#include "bus/io_bus.h"

namespace doppel::devices {

/// One of several register blocks of a device: forwards accesses to two of its member functions.
template <class Owner>
class MemberHandler : public bus::IoHandler {
 public:
  using Read = std::uint64_t (Owner::*)(std::uint64_t offset, unsigned size);
  using Write = void (Owner::*)(std::uint64_t offset, unsigned size, std::uint64_t value);

  MemberHandler(Owner& owner, Read read, Write write) : owner_(owner), read_(read), write_(write) {}

  std::uint64_t read(std::uint64_t offset, unsigned size) override { return (owner_.*read_)(offset, size); }
  void write(std::uint64_t offset, unsigned size, std::uint64_t value) override {
    (owner_.*write_)(offset, size, value);
  }

 private:
  Owner& owner_;
  Read read_;
  Write write_;
};

}  // namespace doppel::devices
