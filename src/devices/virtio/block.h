#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "devices/virtio/device.h"
#include "storage/block_device.h"

namespace doppel::devices::virtio {

/// A disk (virtio 1.2, 5.2): reads, writes, flush, discard, write-zeroes, serial number, several queues.
///
/// Requests go to the back end in the thread that rings the doorbell; completions come in whichever thread the back end
/// calls, which then takes the device's lock.
class Block : public Device {
 public:
  struct Config {
    std::string name;
    std::string serial;  ///< at most 20 characters
    std::uint16_t queues = 1;
  };
  Block(const Config& config, std::unique_ptr<storage::BlockDevice> disk, memory::GuestMemory& memory);
  ~Block() override;

  /// The back end's size has changed: tells the driver. Any thread.
  void capacity_changed();

  static constexpr std::uint16_t kQueueSize = 256;

 protected:
  void on_notify(unsigned queue) override;
  void on_reset() override;
  void drain() override;
  std::span<const std::uint8_t> device_config() override { return config_; }
  void write_device_config(std::uint64_t offset, unsigned size, std::uint64_t value) override;
  void describe_device(state::Visitor& v) override;

 private:
  struct Slot : storage::BlockRequest {
    Block* owner = nullptr;
    unsigned queue = 0;
    std::uint16_t head = 0;
    Buffer status;
    std::vector<Buffer> data;
    std::vector<iovec> vectors;
    int error = 0;
  };

  void start(unsigned queue, const Chain& chain);
  /// Fills in what the back end is to do; a status when there is nothing to do for it.
  std::optional<std::uint8_t> prepare(Slot& slot, const Chain& chain);
  std::optional<std::uint8_t> prepare_transfer(Slot& slot, std::uint64_t sector, std::span<const Buffer> data);
  std::optional<std::uint8_t> prepare_range(Slot& slot, const Chain& chain, bool write_zeroes);
  std::uint8_t identify(const Slot& slot, std::span<const Buffer> data);
  void finish(const Slot& slot, std::uint8_t status, std::uint32_t written);
  /// The back end has done its part; any thread.
  void completed(Slot& slot, int error);
  void process_completed();
  std::unique_ptr<Slot> new_slot();

  std::unique_ptr<storage::BlockDevice> disk_;
  const std::string serial_;
  std::array<std::uint8_t, 60> config_{};
  Chain chain_;
  std::vector<std::unique_ptr<Slot>> free_slots_;
  std::atomic<std::thread::id> submitter_;  ///< who holds the lock and will look at what is completed

  std::mutex completion_mutex_;  ///< after the device's lock
  std::condition_variable all_completed_;
  unsigned in_flight_ = 0;
  std::vector<Slot*> completed_;
};

}  // namespace doppel::devices::virtio
