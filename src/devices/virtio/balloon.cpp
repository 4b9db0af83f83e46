#include "devices/virtio/balloon.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kMemoryController = 0x05'0000;
constexpr std::uint16_t kQueueSize = 128;

// 5.5.3
constexpr unsigned kStatistics = 1, kDeflateOnOutOfMemory = 2, kPageReporting = 5;
/// 5.5.2 gives free page hints, which are not offered, the number 3 and reporting 4; Linux counts only those that are
/// there. So 3 and 4 are both for reports, and 2 as well without statistics.
enum QueueIndex : unsigned { kInflate, kDeflate, kStatisticsQueue, kQueues = 5 };

// 5.5.4, struct virtio_balloon_config
constexpr std::size_t kTargetOffset = 0, kActualOffset = 4;

struct [[gnu::packed]] StatisticsEntry {
  std::uint16_t tag;
  std::uint64_t value;
};

constexpr std::uint64_t kPageShift = memory::kPageShift;

}  // namespace

Balloon::Balloon(std::string name, memory::GuestMemory& memory)
    : Device(std::move(name),
             {.type = DeviceType::Balloon,
              .class_code = kMemoryController,
              .features = bit(kStatistics) | bit(kDeflateOnOutOfMemory) | bit(kPageReporting),
              .queues = std::vector<std::uint16_t>(kQueues, kQueueSize)},
             memory) {}

void Balloon::set_target(std::uint32_t pages) {
  const std::lock_guard guard(lock());
  store_le(&config_[kTargetOffset], pages);
  config_changed();
}

std::uint32_t Balloon::actual() {
  const std::lock_guard guard(lock());
  return load_le<std::uint32_t>(&config_[kActualOffset]);
}

std::uint64_t Balloon::reported_bytes() {
  const std::lock_guard guard(lock());
  return reported_bytes_;
}

BalloonStatistics Balloon::statistics() {
  const std::lock_guard guard(lock());
  // Giving the buffer back is how the guest is asked (5.5.6.3).
  if (is_active() && std::exchange(has_statistics_request_, false)) {
    queue(kStatisticsQueue).push(statistics_request_, 0);
    interrupt(kStatisticsQueue);
  }
  return statistics_;
}

void Balloon::write_device_config(std::uint64_t offset, unsigned size, std::uint64_t value) {
  if (offset == kActualOffset && size == 4) store_le(&config_[kActualOffset], static_cast<std::uint32_t>(value));
}

void Balloon::on_reset() {
  store_le(&config_[kActualOffset], std::uint32_t{0});
  statistics_ = {};
  has_statistics_request_ = false;
  statistics_request_ = 0;
}

void Balloon::describe_device(state::Visitor& v) {
  v.field(50, "config", std::as_writable_bytes(std::span{config_}));
  v.field(51, "statistics", statistics_.values);
  v.field(52, "statistics_request", statistics_request_);
  v.field(53, "has_statistics_request", has_statistics_request_);
}

void Balloon::on_notify(unsigned index) {
  switch (index) {
    case kInflate:
      return inflate();
    case kDeflate:
      return acknowledge(kDeflate);
    case kStatisticsQueue:
      return has_feature(kStatistics) ? take_statistics() : report(index);
    default:
      return report(index);
  }
}

void Balloon::acknowledge(unsigned index) {
  do {
    while (take(index, chain_)) queue(index).push(chain_.head, 0);
  } while (rest(index));
  interrupt(index);
}

void Balloon::inflate() {
  do {
    while (take(kInflate, chain_)) {
      discard_pages(chain_);
      queue(kInflate).push(chain_.head, 0);
    }
  } while (rest(kInflate));
  interrupt(kInflate);
}

void Balloon::discard_pages(const Chain& chain) {
  // Neighbours go in one call: the guest gives them in descending order, mostly.
  std::uint64_t first = 0;
  std::uint64_t count = 0;
  const auto flush = [&] {
    if (count != 0) memory().discard(first << kPageShift, count << kPageShift);
  };
  std::uint32_t frame = 0;
  for (std::uint64_t offset = 0; chain.read(offset, frame); offset += sizeof frame) {
    if (count != 0 && frame == first + count) {
      ++count;
    } else if (count != 0 && frame + std::uint64_t{1} == first) {
      --first;
      ++count;
    } else {
      flush();
      first = frame;
      count = 1;
    }
  }
  flush();
}

void Balloon::take_statistics() {
  while (take(kStatisticsQueue, chain_)) {
    // The guest owes one buffer; a second before the first was given back replaces it.
    if (has_statistics_request_) queue(kStatisticsQueue).push(statistics_request_, 0);
    StatisticsEntry entry{};
    for (std::uint64_t offset = 0; chain_.read(offset, entry); offset += sizeof entry) {
      if (entry.tag < BalloonStatistics::kTags) statistics_.values[entry.tag] = entry.value;
    }
    statistics_request_ = chain_.head;
    has_statistics_request_ = true;
  }
  rest(kStatisticsQueue);
}

void Balloon::report(unsigned index) {
  do {
    while (take(index, chain_)) {
      for (const Buffer& buffer : chain_.writable) {
        if (memory().discard(buffer.address, buffer.length)) reported_bytes_ += buffer.length;
      }
      queue(index).push(chain_.head, 0);
    }
  } while (rest(index));
  interrupt(index);
}

}  // namespace doppel::devices::virtio
