#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "storage/block_device.h"
#include "storage/file.h"
#include "storage/range_lock.h"

namespace doppel::storage {

/// What a run of a disk's contents is made of.
struct Extent {
  enum class Kind : std::uint8_t {
    Unallocated,  ///< not in this image: the backing image shows through, zeros if there is none
    Zero,         ///< zeros, by this image's word
    Data,
    Compressed,
  };
  std::uint64_t length = 0;
  Kind kind = Kind::Unallocated;
  const File* file = nullptr;     ///< Data, Compressed: where it is
  std::uint64_t file_offset = 0;  ///< Data, and Zero if `allocated`
  bool allocated = false;         ///< Zero: space is reserved at file_offset
};

/// A range of a request that is served by plain I/O on a file, or by nothing but zeros (`file` null; reads only).
struct FileRun {
  File* file;
  std::uint64_t file_offset;
  std::uint64_t length;
};

/// The runs of a whole request, and what keeps them in place meanwhile.
struct Located {
  std::vector<FileRun> runs;
  std::vector<RangeLock::Hold> holds;
};

/// A disk image: waits for its I/O, unlike BlockDevice, and is what formats implement. Thread-safe; requests to
/// different parts run in parallel. Offsets and lengths are in bytes, of any alignment, inside [0, size()); calls
/// return 0 or an errno.
class Image {
 public:
  virtual ~Image() = default;

  virtual const char* format() const = 0;  ///< "raw", "qcow2"
  virtual const std::string& name() const = 0;
  virtual std::uint64_t size() const = 0;
  virtual bool read_only() const = 0;
  virtual std::uint64_t cluster_size() const = 0;  ///< the unit of allocation; 1 for raw

  virtual int read(std::uint64_t offset, Buffers into) = 0;
  virtual int write(std::uint64_t offset, Buffers from) = 0;
  virtual int write_zeroes(std::uint64_t offset, std::uint64_t length, bool may_unmap) = 0;
  virtual int discard(std::uint64_t offset, std::uint64_t length) = 0;
  /// What completed before survives a power cut.
  virtual int flush() = 0;
  /// flush() does what it says from now on, also where the image was opened as one that is not kept (DiskOptions). What
  /// was flushed before has been written to the disk when this returns.
  virtual int keep() = 0;
  /// The run that begins at `offset`, at most `length` long, in this image alone.
  virtual int extent(std::uint64_t offset, std::uint64_t length, Extent& extent) = 0;
  /// Tells without waiting for the disk where the bytes of a read or write are, if plain I/O is all it takes. False:
  /// use read() or write(), on a thread that may wait.
  virtual bool locate(bool for_write, std::uint64_t offset, std::uint64_t length, Located& located) = 0;
  /// True if flush() would have to do nothing. May be false when nothing has to be done.
  virtual bool is_flushed() const = 0;
  /// Plain I/O on a FileRun has written: flush() is needed.
  virtual void note_written() = 0;

  virtual std::shared_ptr<Image> backing() const { return nullptr; }

  /// Makes an image that was open for writing read-only, complete on the disk (see keep()) and shared with others: it
  /// becomes a backing image.
  virtual Result<void> freeze() = 0;
  /// The reverse, if the file was opened for writing and nobody else uses it.
  virtual Result<void> thaw() = 0;
};

}  // namespace doppel::storage
