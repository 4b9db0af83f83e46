#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "storage/iovec.h"

namespace doppel::storage {

/// A run of a file that is all data or all hole.
struct FileExtent {
  std::uint64_t length = 0;
  bool data = true;
};

/// Random access to what holds an image: a file or block device of the host, or a test's. Thread-safe; all calls wait.
/// Calls that return int give 0 or an errno.
class File {
 public:
  virtual ~File() = default;

  /// For messages.
  virtual const std::string& name() const = 0;
  virtual std::uint64_t size() const = 0;
  virtual bool read_only() const = 0;

  /// Bytes past the end read as zeros.
  virtual int read(std::uint64_t offset, Buffers into) = 0;
  virtual int write(std::uint64_t offset, Buffers from) = 0;
  /// Returns when all that was written before survives a power cut.
  virtual int sync() = 0;
  /// sync() does what it says from now on, also where the file was opened as one that is not kept; and once at once.
  virtual int keep() { return 0; }
  /// Gives the space back where it can; the range then reads as zeros if it returns 0.
  virtual int punch_hole(std::uint64_t offset, std::uint64_t length) = 0;
  /// The range reads as zeros afterwards; grows the file if need be.
  virtual int write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) = 0;
  virtual int truncate(std::uint64_t size) = 0;
  /// Reserves space, so that later writes there do not fail for want of it.
  virtual int allocate(std::uint64_t offset, std::uint64_t length) = 0;
  /// The run that begins at `offset`; holes read as zeros.
  virtual FileExtent extent(std::uint64_t offset, std::uint64_t length) = 0;

  /// Lets others use the file too, as who only reads it does; and takes it for itself again. Files without locks do
  /// nothing.
  virtual Result<void> share() { return {}; }
  virtual Result<void> lock_for_writing() { return {}; }

  /// The host's descriptor that I/O of this alignment may be sent to by other means (io_uring), or -1.
  virtual int descriptor(std::uint64_t offset, Buffers buffers) const = 0;
  /// True if `descriptor` is cached by the host, so that RWF_NOWAIT tells whether I/O would wait.
  virtual bool cached() const = 0;

  int read_bytes(std::uint64_t offset, std::span<std::byte> into) {
    const iovec piece = as_iovec(into);
    return read(offset, {&piece, 1});
  }
  int write_bytes(std::uint64_t offset, std::span<const std::byte> from) {
    const iovec piece = as_iovec(from);
    return write(offset, {&piece, 1});
  }
};

}  // namespace doppel::storage
