#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"
#include "base/mmap.h"
#include "base/result.h"
#include "memory/code_map.h"
#include "memory/dirty_map.h"

namespace doppel::memory {

/// An address on the guest's physical bus.
using GuestPhysical = std::uint64_t;

inline constexpr std::uint64_t kPageSize = 4096;
inline constexpr unsigned kPageShift = 12;
/// RAM stops here and goes on at 4 GiB: the gap holds PCI windows, the APICs, HPET and flash.
inline constexpr GuestPhysical kPciHoleStart = 0xC000'0000;
inline constexpr GuestPhysical kPciHoleEnd = 0x1'0000'0000;

/// A contiguous piece of RAM in the guest's physical address space.
struct RamRegion {
  GuestPhysical start;
  std::uint64_t size;
  std::byte* host;
};

/// Who wants to see pages of RAM as they are before they change: a snapshot that is being written while the guest runs.
class WriteObserver {
 public:
  virtual ~WriteObserver() = default;
  /// The page with this index (GuestMemory::page_index) is about to be written, by whoever calls. Any thread. Comes at
  /// least once between an engine's VcpuRunner::flush_translations and its first store to the page.
  virtual void before_write(std::uint64_t page) = 0;
};

/// The guest's RAM: where it is, and the one door through which it is written.
///
/// Devices, loaders and the debugger use read() and write(). CPU engines take host pointers page by page and keep the
/// promises of `writable_page` themselves, for speed. Any thread may call any function; concurrent accesses to the same
/// bytes race exactly as on real memory. Neither copied nor moved: engines keep pointers into it.
class GuestMemory {
 public:
  enum class Backing : std::uint8_t {
    Private,
    Shareable,  ///< other processes can map it, by shared_fd()
  };
  /// `size` bytes of zeroed RAM, a multiple of 4 KiB, at least 1 MiB; reserved, not committed. An error says
  /// what would have been possible.
  static Result<std::unique_ptr<GuestMemory>> create(std::uint64_t size, Backing backing = Backing::Private);
  /// A file that is the RAM, by page index; -1 where it is private, or its contents have been mapped.
  int shared_fd() const { return has_mapped_contents_ ? -1 : file_.get(); }

  std::uint64_t size() const { return size_; }
  /// Ascending, one or two of them.
  std::span<const RamRegion> regions() const { return regions_; }
  /// One past the highest RAM address.
  GuestPhysical end() const;

  /// The host's view of the page of RAM that holds `address`, or nullptr where there is no RAM. Valid for the life of
  /// this object. For reading only, unless the caller keeps the writer's promises (see note_write).
  std::byte* page(GuestPhysical address) const {
    if (address < low_size_) return low_host_ + (address & ~(kPageSize - 1));
    const GuestPhysical high = address - kPciHoleEnd;
    return high < high_size_ ? high_host_ + (high & ~(kPageSize - 1)) : nullptr;
  }

  /// Copies out; false when any byte of the range is not RAM (then `out` is unspecified).
  bool read(GuestPhysical address, std::span<std::byte> out) const;
  /// Copies in, marks the pages dirty and drops code made from them; false (and nothing is written) when any byte is
  /// not RAM.
  bool write(GuestPhysical address, std::span<const std::byte> bytes);

  /// Zeroes all RAM, as after power-up, and gives its pages back to the host. All processors stopped.
  void clear();

  /// From now on the pages of RAM from index `page` on have the contents of `length` bytes (whole pages) of `fd` at
  /// `offset`: read when they are first touched, copied when they are first written, never written back. The file is
  /// written no more while this object lives. Before any processor runs.
  Result<void> map_contents(int fd, std::uint64_t offset, std::uint64_t page, std::uint64_t length);

  /// Set (or removed, by null) while all processors and devices are stopped; it outlives what it observes.
  void set_write_observer(WriteObserver* observer) { observer_ = observer; }
  /// The host's view of a page by its index, for whoever saves memory.
  std::byte* page_at(std::uint64_t index) const { return mapping_.data() + (index << kPageShift); }

  template <class T>
  bool read_value(GuestPhysical address, T& value) const {
    return read(address, std::as_writable_bytes(std::span{&value, 1}));
  }
  template <class T>
  bool write_value(GuestPhysical address, const T& value) {
    return write(address, std::as_bytes(std::span{&value, 1}));
  }

  /// A read-only view of a range inside one region; empty when it is not RAM. For loaders and scanning.
  std::span<const std::byte> view(GuestPhysical address, std::uint64_t length) const;

  // --- For devices that let the host's kernel read and write guest memory in place ---

  /// The host's view of a range inside one region; empty when any byte of it is not RAM. Whoever has it written calls
  /// prepare_device_write() before and note_device_write() after that, and lets nothing of it be in flight while the
  /// machine is paused.
  std::span<std::byte> device_view(GuestPhysical address, std::uint64_t length) const {
    std::byte* const start = range(address, length);
    return start == nullptr ? std::span<std::byte>{} : std::span{start, static_cast<std::size_t>(length)};
  }
  /// A range of RAM of any length is about to be written through a device_view().
  void prepare_device_write(GuestPhysical address, std::uint64_t length) {
    if (observer_ != nullptr && length != 0) [[unlikely]]
      show_before_write(address, length);
  }
  /// A range of RAM of any length has been written: marks its pages dirty and drops code made from them.
  void note_device_write(GuestPhysical address, std::uint64_t length);
  /// Gives whole pages back to the host; they read as zeros from then on, which counts as a write. False when any byte
  /// of the range is not RAM.
  bool discard(GuestPhysical address, std::uint64_t length);

  // --- The writer's promises, for engines that store through page() ---

  /// To be called once per page before an engine caches the right to write to it (a TLB fill for writing).
  void prepare_write(GuestPhysical address) {
    const std::uint64_t page = page_index(address);
    if (touched_ != nullptr && !touched_[page / kPagesTogether].load(std::memory_order_relaxed)) [[unlikely]]
      touch(page);
    note_change(page);
  }

  /// To be called after each store through a host pointer; cheap when no code lives there. True: code of this page has
  /// been dropped, so an engine must leave the block that it is running. The range lies inside one page.
  bool note_write(GuestPhysical address, std::uint64_t length) {
    return code_.written(page_index(address), address & (kPageSize - 1), length);
  }

  /// A dense number for a RAM page, the index of the dirty and code maps. `address` must be RAM.
  std::uint64_t page_index(GuestPhysical address) const {
    return (address < kPciHoleEnd ? address : address - kPciHoleEnd + low_size_) >> kPageShift;
  }
  /// The inverse of page_index.
  GuestPhysical page_address(std::uint64_t index) const {
    const GuestPhysical linear = index << kPageShift;
    return linear < low_size_ ? linear : linear - low_size_ + kPciHoleEnd;
  }

  DirtyMap& dirty() { return dirty_; }
  CodeMap& code() { return code_; }

 private:
  GuestMemory(Mapping mapping, UniqueFd file, std::uint64_t size);
  void note_change(std::uint64_t page) {
    dirty_.mark(page);
    if (observer_ != nullptr) [[unlikely]]
      observer_->before_write(page);
  }
  /// The host's address of a range inside one region, or nullptr. RAM is two regions at most, with a gap between them,
  /// so a range that is all RAM lies in one.
  std::byte* range(GuestPhysical address, std::uint64_t length) const;
  void show_before_write(GuestPhysical address, std::uint64_t length);
  void touch(std::uint64_t page);
  /// Makes whole pages read as zeros and gives them back to the host.
  void zero(std::byte* start, std::uint64_t length);

  Mapping mapping_;
  UniqueFd file_;  ///< empty where the RAM is private
  /// Pages of a file come one fault at a time, where private memory has huge ones: so many, which make a huge one, are
  /// asked for together, once.
  static constexpr std::uint64_t kPagesTogether = 512;
  std::unique_ptr<std::atomic<bool>[]> touched_;  ///< null where the RAM is private
  std::uint64_t size_;
  std::byte* low_host_;
  std::uint64_t low_size_;
  std::byte* high_host_;
  std::uint64_t high_size_;
  std::vector<RamRegion> regions_;
  bool has_mapped_contents_ = false;  ///< map_contents() has been called
  WriteObserver* observer_ = nullptr;
  DirtyMap dirty_;
  CodeMap code_;
};

}  // namespace doppel::memory
