#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

/// The door between disks and whoever reads and writes them: virtio-blk in front, image files behind.
namespace doppel::storage {

enum class BlockOperation : std::uint8_t {
  Read,
  Write,
  Flush,        ///< everything that completed before this was submitted survives a power cut once this completes
  Discard,      ///< the range's contents no longer matter; read as old or zero afterwards
  WriteZeroes,  ///< the range reads as zeros afterwards
};

/// One request. The submitter owns it, and the memory that `buffers` names, until `done` is called, which happens
/// exactly once. Embed it in the device's own slot, or derive from it, so that nothing is allocated for each request:
///
///     struct Slot : storage::BlockRequest { Queue* queue; std::uint16_t head; };
///     slot.done = [](storage::BlockRequest& request, int error) { static_cast<Slot&>(request).finish(error); };
struct BlockRequest {
  /// `error` is 0 or an errno: EINVAL (misaligned or out of the disk), EROFS, ENOSPC, EIO, EOPNOTSUPP …; a failed Write
  /// may have written some of the range. Called on any thread: inside submit() for what could be answered at once, else
  /// on one of the backend's. It must not throw or wait for another request, and may submit more, this object included.
  using Done = void (*)(BlockRequest& request, int error);

  BlockOperation operation = BlockOperation::Read;
  bool durable = false;            ///< Write, WriteZeroes: survives a power cut once complete (FUA)
  bool may_unmap = false;          ///< WriteZeroes: space may be given back
  std::uint64_t offset = 0;        ///< in bytes from the start of the disk, a multiple of the block size; 0 for Flush
  std::uint64_t length = 0;        ///< in bytes, a multiple of the block size; the sum of `buffers` for Read and Write
  std::span<const iovec> buffers;  ///< Read, Write: the caller's memory, any alignment. Also the array is the caller's.
  Done done = nullptr;
};

/// What a disk is. All fixed while it is open, but `capacity`, which BlockDevice::capacity() tells anew after a resize.
struct BlockTraits {
  std::uint64_t capacity = 0;        ///< bytes, a multiple of block_size
  std::uint32_t block_size = 512;    ///< bytes; offsets and lengths are multiples of it
  std::uint32_t optimal_size = 512;  ///< bytes; what is cheapest to write: the image's cluster, the file system's block
  bool read_only = false;
  bool can_discard = false;
  bool can_write_zeroes = false;
  std::uint32_t discard_granularity = 512;  ///< bytes; smaller discards are accepted and may do nothing
  std::uint64_t max_discard = 0;            ///< bytes in one Discard or WriteZeroes; 0: no limit
};

/// A disk, served asynchronously. All members may be called from any thread at any time.
class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual const BlockTraits& traits() const = 0;
  virtual std::uint64_t capacity() const = 0;

  /// Starts `request`; never waits for the disk. Requests in flight at the same time complete in any order; of two that
  /// overlap, either may win, but neither is torn into the metadata of the image.
  virtual void submit(BlockRequest& request) = 0;

  /// Waits until nothing is in flight. Nothing may be submitted meanwhile by others: pause the guest first. What was
  /// written is not flushed by this: submit a Flush for that. A Done callback must not call it.
  virtual void drain() = 0;
};

/// Submits `request` with a Done of its own and waits for it; 0 or an errno. Not for Done callbacks.
int submit_and_wait(BlockDevice& device, BlockRequest request);

}  // namespace doppel::storage
