#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/result.h"

namespace doppel::bus {

/// Something that answers reads and writes at offsets from wherever the machine has mapped it; it never learns its base
/// address.
class IoHandler {
 public:
  virtual ~IoHandler() = default;
  /// `size` is 1, 2, 4 or 8 (8 on MMIO only). Unimplemented registers read as the data sheet says, else all ones.
  virtual std::uint64_t read(std::uint64_t offset, unsigned size) = 0;
  virtual void write(std::uint64_t offset, unsigned size, std::uint64_t value) = 0;
};

/// One address space of handlers: the machine has one for I/O ports and one for MMIO. Dispatch only.
///
/// map() happens while the machine is built; read() and write() come from any vCPU thread afterwards and take the lock
/// that was given with the range, so that a device sees one access at a time. Unclaimed reads give all ones, unclaimed
/// writes are dropped. An access that runs past the end of a range, or into a neighbour, is split into bytes.
class IoBus {
 public:
  /// Overlap with another range is an error that names both. `lock` may be null for handlers that need none.
  Result<void> map(std::uint64_t base, std::uint64_t length, IoHandler& handler, std::mutex* lock, std::string name);

  std::uint64_t read(std::uint64_t address, unsigned size);
  void write(std::uint64_t address, unsigned size, std::uint64_t value);

  /// Any handler at this address?
  bool claims(std::uint64_t address) const { return find(address) != nullptr; }

  struct Range {
    std::uint64_t base;
    std::uint64_t length;
    IoHandler* handler;
    std::mutex* lock;
    std::string name;
  };
  /// Ascending by base, for inspection.
  const std::vector<Range>& ranges() const { return ranges_; }

 private:
  const Range* find(std::uint64_t address) const;

  std::vector<Range> ranges_;
};

}  // namespace doppel::bus
