#include "devices/virtio/block.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kMassStorage = 0x01'8000;
constexpr std::uint64_t kSector = 512;

// 5.2.3
constexpr unsigned kSegMax = 2, kReadOnly = 5, kBlockSize = 6, kFlush = 9, kTopology = 10, kConfigWce = 11,
                   kMultiQueue = 12, kDiscard = 13, kWriteZeroes = 14;

// 5.2.6
enum RequestType : std::uint32_t {
  kIn = 0,
  kOut = 1,
  kFlushRequest = 4,
  kGetId = 8,
  kDiscardRequest = 11,
  kWriteZeroesRequest = 13,
};
constexpr std::uint8_t kOk = 0, kIoError = 1, kUnsupported = 2;

struct RequestHeader {
  std::uint32_t type;
  std::uint32_t reserved;
  std::uint64_t sector;
};
struct RangeSegment {
  std::uint64_t sector;
  std::uint32_t sectors;
  std::uint32_t flags;
};
constexpr std::uint32_t kUnmap = 1;
constexpr std::size_t kIdBytes = 20;

// 5.2.4, struct virtio_blk_config.
enum ConfigOffset : std::size_t {
  kCapacity = 0,
  kSegMaxOffset = 12,
  kBlockSizeOffset = 20,
  kPhysicalBlockExp = 24,
  kMinIoSize = 26,
  kOptIoSize = 28,
  kWriteback = 32,
  kNumQueues = 34,
  kMaxDiscardSectors = 36,
  kMaxDiscardSegments = 40,
  kDiscardAlignment = 44,
  kMaxWriteZeroesSectors = 48,
  kMaxWriteZeroesSegments = 52,
  kWriteZeroesMayUnmap = 56,
};

Device::Traits traits_of(const storage::BlockTraits& disk, std::uint16_t queues) {
  std::uint64_t features = bit(kSegMax) | bit(kBlockSize) | bit(kFlush) | bit(kTopology) | bit(kConfigWce);
  if (disk.read_only) features |= bit(kReadOnly);
  if (queues > 1) features |= bit(kMultiQueue);
  if (disk.can_discard && !disk.read_only) features |= bit(kDiscard);
  if (disk.can_write_zeroes && !disk.read_only) features |= bit(kWriteZeroes);
  return {.type = DeviceType::Block,
          .class_code = kMassStorage,
          .features = features,
          .queues = std::vector<std::uint16_t>(queues, Block::kQueueSize)};
}

}  // namespace

Block::Block(const Config& config, std::unique_ptr<storage::BlockDevice> disk, memory::GuestMemory& memory)
    : Device(config.name, traits_of(disk->traits(), config.queues), memory),
      disk_(std::move(disk)),
      serial_(config.serial) {
  const storage::BlockTraits& traits = disk_->traits();
  store_le(&config_[kCapacity], disk_->capacity() / kSector);
  store_le(&config_[kSegMaxOffset], std::uint32_t{kQueueSize - 2});
  store_le(&config_[kBlockSizeOffset], traits.block_size);
  store_le(&config_[kMinIoSize], std::uint16_t{1});
  store_le(&config_[kOptIoSize], std::max(traits.optimal_size / traits.block_size, 1U));
  config_[kWriteback] = 1;
  store_le(&config_[kNumQueues], config.queues);
  const std::uint64_t limit = traits.max_discard == 0 ? std::uint64_t{1} << 40 : traits.max_discard;
  const auto sectors = static_cast<std::uint32_t>(std::min<std::uint64_t>(limit / kSector, 1U << 30));
  store_le(&config_[kMaxDiscardSectors], sectors);
  store_le(&config_[kMaxDiscardSegments], std::uint32_t{1});
  store_le(&config_[kDiscardAlignment], std::max<std::uint32_t>(traits.discard_granularity / kSector, 1));
  store_le(&config_[kMaxWriteZeroesSectors], sectors);
  store_le(&config_[kMaxWriteZeroesSegments], std::uint32_t{1});
  config_[kWriteZeroesMayUnmap] = traits.can_discard ? 1 : 0;
}

Block::~Block() {
  on_reset();
  // Joins the threads that call back.
  disk_.reset();
}

void Block::capacity_changed() {
  const std::lock_guard guard(lock());
  store_le(&config_[kCapacity], disk_->capacity() / kSector);
  config_changed();
}

void Block::write_device_config(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset == kWriteback && size == 1 && has_feature(kConfigWce)) config_[kWriteback] = value != 0 ? 1 : 0;
}

void Block::describe_device(state::Visitor& v) {
  v.field(50, "writeback", config_[kWriteback]);
}

void Block::on_notify(unsigned index) {
  submitter_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  do {
    queue(index).refuse_notification();
    while (take(index, chain_)) start(index, chain_);
  } while (rest(index));
  submitter_.store({}, std::memory_order_relaxed);
  process_completed();
  interrupt(index);
}

std::unique_ptr<Block::Slot> Block::new_slot() {
  if (free_slots_.empty()) {
    auto slot = std::make_unique<Slot>();
    slot->owner = this;
    slot->done = [](storage::BlockRequest& request, int error) {
      auto& finished = static_cast<Slot&>(request);
      finished.owner->completed(finished, error);
    };
    return slot;
  }
  auto slot = std::move(free_slots_.back());
  free_slots_.pop_back();
  return slot;
}

void Block::start(unsigned index, const Chain& chain) {
  if (total_bytes(chain.readable) < sizeof(RequestHeader) || chain.writable.empty()) {
    return fail("a disk request without header or status");
  }
  auto slot = new_slot();
  slot->queue = index;
  slot->head = chain.head;
  const Buffer& last = chain.writable.back();
  slot->status = {last.address + last.length - 1, 1, last.host + last.length - 1};
  if (const std::optional<std::uint8_t> answer = prepare(*slot, chain)) {
    finish(*slot, *answer, *answer == kOk ? static_cast<std::uint32_t>(total_bytes(chain.writable)) : 1);
    free_slots_.push_back(std::move(slot));
    return;
  }
  {
    const std::lock_guard guard(completion_mutex_);
    ++in_flight_;
  }
  // Comes back by completed().
  disk_->submit(*slot.release());
}

std::optional<std::uint8_t> Block::prepare(Slot& slot, const Chain& chain) {
  RequestHeader header{};
  chain.read(0, header);
  slot.data.clear();
  slot.vectors.clear();
  slot.offset = slot.length = 0;
  slot.durable = slot.may_unmap = false;
  slot.buffers = {};
  const bool read_only = disk_->traits().read_only;
  switch (header.type) {
    case kIn:
      slot.operation = storage::BlockOperation::Read;
      return prepare_transfer(slot, header.sector, slice(chain.writable, 0, total_bytes(chain.writable) - 1));
    case kOut:
      if (read_only) return kIoError;
      slot.operation = storage::BlockOperation::Write;
      // A driver that cannot flush relies on each write (5.2.6.2).
      slot.durable = !has_feature(kFlush) || config_[kWriteback] == 0;
      return prepare_transfer(
          slot, header.sector,
          slice(chain.readable, sizeof header, total_bytes(chain.readable) - sizeof(RequestHeader)));
    case kFlushRequest:
      slot.operation = storage::BlockOperation::Flush;
      return std::nullopt;
    case kGetId:
      return identify(slot, slice(chain.writable, 0, total_bytes(chain.writable) - 1));
    case kDiscardRequest:
    case kWriteZeroesRequest: {
      const bool zeroes = header.type == kWriteZeroesRequest;
      if (!has_feature(zeroes ? kWriteZeroes : kDiscard)) return kUnsupported;
      return read_only ? kIoError : prepare_range(slot, chain, zeroes);
    }
    default:
      return kUnsupported;
  }
}

std::optional<std::uint8_t> Block::prepare_transfer(Slot& slot, std::uint64_t sector, std::span<const Buffer> data) {
  const std::uint64_t length = total_bytes(data);
  const std::uint64_t capacity = disk_->capacity();
  const std::uint32_t block = disk_->traits().block_size;
  if (sector > capacity / kSector || length > capacity - sector * kSector) return kIoError;
  if (length % block != 0 || sector * kSector % block != 0) return kIoError;
  if (length == 0) return kOk;
  slot.offset = sector * kSector;
  slot.length = length;
  for (const Buffer& buffer : data) slot.vectors.push_back({buffer.host, buffer.length});
  if (slot.operation == storage::BlockOperation::Read) slot.data.assign(data.begin(), data.end());
  slot.buffers = slot.vectors;
  return std::nullopt;
}

std::optional<std::uint8_t> Block::prepare_range(Slot& slot, const Chain& chain, bool write_zeroes) {
  RangeSegment segment{};
  const std::uint64_t bytes = total_bytes(chain.readable) - sizeof(RequestHeader);
  if (bytes != sizeof segment || !chain.read(sizeof(RequestHeader), segment)) return kIoError;
  const std::uint32_t known_flags = write_zeroes ? kUnmap : 0;
  if ((segment.flags & ~known_flags) != 0) return kUnsupported;
  const std::uint64_t capacity = disk_->capacity() / kSector;
  const auto limit = load_le<std::uint32_t>(&config_[kMaxDiscardSectors]);
  if (segment.sector > capacity || segment.sectors > capacity - segment.sector || segment.sectors > limit)
    return kIoError;
  const std::uint32_t block = disk_->traits().block_size;
  if (segment.sector * kSector % block != 0 || segment.sectors * kSector % block != 0) return kIoError;
  if (segment.sectors == 0) return kOk;
  slot.operation = write_zeroes ? storage::BlockOperation::WriteZeroes : storage::BlockOperation::Discard;
  slot.offset = segment.sector * kSector;
  slot.length = segment.sectors * kSector;
  slot.may_unmap = (segment.flags & kUnmap) != 0;
  slot.durable = write_zeroes && (!has_feature(kFlush) || config_[kWriteback] == 0);
  return std::nullopt;
}

std::uint8_t Block::identify(const Slot&, std::span<const Buffer> data) {
  std::array<std::byte, kIdBytes> id{};
  std::transform(serial_.begin(), serial_.begin() + static_cast<std::ptrdiff_t>(std::min(serial_.size(), kIdBytes)),
                 id.begin(), [](char c) { return static_cast<std::byte>(c); });
  return scatter(memory(), data, 0, id) == kIdBytes ? kOk : kIoError;
}

void Block::finish(const Slot& slot, std::uint8_t status, std::uint32_t written) {
  const auto byte = static_cast<std::byte>(status);
  scatter(memory(), std::span{&slot.status, 1}, 0, std::span{&byte, 1});
  queue(slot.queue).push(slot.head, written);
}

void Block::completed(Slot& slot, int error) {
  slot.error = error;
  bool first = false;
  {
    const std::lock_guard guard(completion_mutex_);
    first = completed_.empty();
    completed_.push_back(&slot);
    if (--in_flight_ == 0) all_completed_.notify_all();
  }
  // Inside submit(): the submitter looks itself. Behind others: whoever was first looks for all.
  if (submitter_.load(std::memory_order_relaxed) == std::this_thread::get_id() || !first) return;
  const std::lock_guard guard(lock());
  process_completed();
}

void Block::process_completed() {
  std::vector<Slot*> done;
  {
    const std::lock_guard guard(completion_mutex_);
    done.swap(completed_);
  }
  std::uint32_t touched = 0;
  for (Slot* const finished : done) {
    std::unique_ptr<Slot> slot(finished);
    const bool is_ok = slot->error == 0;
    if (slot->operation == storage::BlockOperation::Read) {
      for (const Buffer& buffer : slot->data) memory().note_device_write(buffer.address, buffer.length);
    }
    const std::uint32_t read =
        slot->operation == storage::BlockOperation::Read && is_ok ? static_cast<std::uint32_t>(slot->length) : 0;
    finish(*slot, is_ok ? kOk : slot->error == EOPNOTSUPP ? kUnsupported : kIoError, read + 1);
    touched |= 1u << slot->queue;
    free_slots_.push_back(std::move(slot));
  }
  for (unsigned i = 0; touched >> i != 0; ++i) {
    if ((touched >> i & 1) != 0) interrupt(i);
  }
}

void Block::on_reset() {
  std::vector<Slot*> abandoned;
  {
    std::unique_lock guard(completion_mutex_);
    all_completed_.wait(guard, [this] { return in_flight_ == 0; });
    abandoned.swap(completed_);
  }
  for (Slot* const slot : abandoned) {
    for (const Buffer& buffer : slot->data) memory().note_device_write(buffer.address, buffer.length);
    free_slots_.emplace_back(slot);
  }
  config_[kWriteback] = 1;
}

void Block::drain() {
  {
    std::unique_lock guard(completion_mutex_);
    all_completed_.wait(guard, [this] { return in_flight_ == 0; });
  }
  const std::lock_guard guard(lock());
  process_completed();
}

}  // namespace doppel::devices::virtio
