#include "memory/guest_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/system_error.h"

namespace doppel::memory {
namespace {

constexpr std::uint64_t kSmallest = std::uint64_t{1} << 20;
/// Far above any host, and low enough that every RAM address has fewer than the 52 bits of a physical address.
constexpr std::uint64_t kLargest = std::uint64_t{1} << 46;

}  // namespace

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(std::uint64_t size, Backing backing) {
  if (size < kSmallest || size > kLargest || size % kPageSize != 0) {
    return Error{fmt::format(
        "cannot give a machine {} bytes of memory: it takes whole pages of 4 KiB, from 1 MiB to 64 TiB", size)};
  }
  UniqueFd file;
  Result<Mapping> mapping = Mapping::anonymous(size);
  if (backing == Backing::Shareable) {
    file = UniqueFd(::memfd_create("doppel-ram", MFD_CLOEXEC));
    if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
      return system_error("cannot make a file of guest memory");
    mapping = Mapping::aligned_file(file.get(), size, kPagesTogether << kPageShift);
  }
  if (!mapping) {
    return Error{fmt::format("the host cannot provide {} MiB of guest memory ({}); use a smaller --memory", size >> 20,
                             mapping.error().message)};
  }
  // Fewer faults and TLB misses for us; kernels without huge pages refuse, and nothing is lost.
  ::madvise(mapping->data(), mapping->size(), MADV_HUGEPAGE);
  return std::unique_ptr<GuestMemory>(new GuestMemory(*std::move(mapping), std::move(file), size));
}

GuestMemory::GuestMemory(Mapping mapping, UniqueFd file, std::uint64_t size)
    : mapping_(std::move(mapping)),
      file_(std::move(file)),
      size_(size),
      low_host_(mapping_.data()),
      low_size_(std::min(size, kPciHoleStart)),
      high_host_(mapping_.data() + low_size_),
      high_size_(size - low_size_),
      dirty_(size >> kPageShift),
      code_(size >> kPageShift) {
  if (file_.valid()) touched_ = std::make_unique<std::atomic<bool>[]>((size >> kPageShift) / kPagesTogether + 1);
  regions_.push_back({0, low_size_, low_host_});
  if (high_size_ != 0) regions_.push_back({kPciHoleEnd, high_size_, high_host_});
}

void GuestMemory::zero(std::byte* start, std::uint64_t length) {
  const auto give_back = [&] {
    // Pages of a file that are given back have the file's contents again, so they are replaced.
    if (has_mapped_contents_) {
      constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
      return ::mmap(start, length, PROT_READ | PROT_WRITE, kFlags, -1, 0) != MAP_FAILED;
    }
    if (!file_.valid()) return ::madvise(start, length, MADV_DONTNEED) == 0;
    return ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start - mapping_.data(),
                       static_cast<off_t>(length)) == 0;
  };
  if (!give_back()) std::memset(start, 0, length);
}

void GuestMemory::touch(std::uint64_t page) {
  const std::uint64_t first = page - page % kPagesTogether, pages = size_ >> kPageShift;
  if (touched_[first / kPagesTogether].exchange(true, std::memory_order_relaxed)) return;
  std::byte* const start = page_at(first);
  const std::uint64_t length = std::min(kPagesTogether, pages - first) << kPageShift;
  // One huge page, where the host's kernel makes one out of the first of its pages (from 6.1 on); or all the small ones
  // at once (5.14). Before that they come one by one.
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers do not have
  if (::madvise(start, kPageSize, MADV_POPULATE_WRITE) == 0 && ::madvise(start, length, kCollapse) == 0) return;
  ::madvise(start, length, MADV_POPULATE_WRITE);
}

Result<void> GuestMemory::map_contents(int fd, std::uint64_t offset, std::uint64_t page, std::uint64_t length) {
  const std::uint64_t pages = size_ >> kPageShift;
  if (offset % kPageSize != 0 || length % kPageSize != 0 || page > pages || length >> kPageShift > pages - page) {
    return Error{"saved memory does not lie inside the machine's"};
  }
  if (length == 0) return {};
  if (::mmap(page_at(page), length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, fd,
             static_cast<off_t>(offset)) == MAP_FAILED) {
    return system_error("cannot map a file of saved memory");
  }
  has_mapped_contents_ = true;
  touched_.reset();
  return {};
}

void GuestMemory::clear() {
  zero(mapping_.data(), mapping_.size());
  for (std::uint64_t index = 0; index < size_ >> kPageShift; ++index) {
    if (touched_ != nullptr && index % kPagesTogether == 0) touched_[index / kPagesTogether] = false;
    dirty_.mark(index);
    if (code_.has_code(index)) code_.written(index, 0, kPageSize);
  }
}

GuestPhysical GuestMemory::end() const {
  return regions_.back().start + regions_.back().size;
}

std::byte* GuestMemory::range(GuestPhysical address, std::uint64_t length) const {
  for (const RamRegion& region : regions_) {
    if (address < region.start) continue;
    const std::uint64_t offset = address - region.start;
    if (offset < region.size && length <= region.size - offset) return region.host + offset;
  }
  return nullptr;
}

bool GuestMemory::read(GuestPhysical address, std::span<std::byte> out) const {
  const std::byte* source = range(address, out.size());
  if (source == nullptr) return false;
  std::copy_n(source, out.size(), out.data());
  return true;
}

bool GuestMemory::write(GuestPhysical address, std::span<const std::byte> bytes) {
  std::byte* target = range(address, bytes.size());
  if (target == nullptr) return false;
  if (touched_ != nullptr && bytes.size() > kPageSize) {
    for (std::uint64_t page = page_index(address); page <= page_index(address + bytes.size() - 1); ++page)
      if (!touched_[page / kPagesTogether].load(std::memory_order_relaxed)) touch(page);
  }
  prepare_device_write(address, bytes.size());
  std::copy_n(bytes.data(), bytes.size(), target);
  note_device_write(address, bytes.size());
  return true;
}

void GuestMemory::show_before_write(GuestPhysical address, std::uint64_t length) {
  const std::uint64_t last = page_index(address + length - 1);
  for (std::uint64_t page = page_index(address); page <= last; ++page) observer_->before_write(page);
}

void GuestMemory::note_device_write(GuestPhysical address, std::uint64_t length) {
  while (length > 0) {
    const std::uint64_t in_page = std::min(length, kPageSize - (address & (kPageSize - 1)));
    note_change(page_index(address));
    note_write(address, in_page);
    address += in_page;
    length -= in_page;
  }
}

bool GuestMemory::discard(GuestPhysical address, std::uint64_t length) {
  std::byte* const start = range(address, length);
  if (start == nullptr || address % kPageSize != 0 || length % kPageSize != 0) return false;
  prepare_device_write(address, length);
  zero(start, length);
  note_device_write(address, length);
  return true;
}

std::span<const std::byte> GuestMemory::view(GuestPhysical address, std::uint64_t length) const {
  const std::byte* start = range(address, length);
  if (start == nullptr) return {};
  return {start, static_cast<std::size_t>(length)};
}

}  // namespace doppel::memory
