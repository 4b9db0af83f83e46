#include "devices/virtio/file_system.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"

namespace doppel::devices::virtio {
namespace {

constexpr std::uint32_t kMassStorage = 0x01'8000;
constexpr std::uint16_t kHighPriorityQueueSize = 128;
/// A request of the largest size has a descriptor for each of its pages.
constexpr std::uint16_t kRequestQueueSize = 1024;

}  // namespace

FileSystem::FileSystem(std::string name, std::string_view tag, share::FileServer::Config directory,
                       memory::GuestMemory& memory)
    : Device(std::move(name),
             {.type = DeviceType::FileSystem,
              .class_code = kMassStorage,
              .queues = {kHighPriorityQueueSize, kRequestQueueSize}},
             memory),
      server_(std::move(directory)) {
  std::copy_n(tag.begin(), std::min(tag.size(), kTagBytes), config_.begin());
  store_le(&config_[kTagBytes], std::uint32_t{1});
}

void FileSystem::describe_device(state::Visitor& v) {
  share::FileServer::Numbers numbers = server_.numbers();
  v.field(50, "next_node", numbers.node);
  v.field(51, "next_handle", numbers.handle);
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  v.require(
      numbers.node > share::NodeTable::kRoot && numbers.node < kMost && numbers.handle > 0 && numbers.handle < kMost,
      "files have numbers that cannot be");
  v.on_loaded([this, numbers] { server_.restart(numbers); });
}

void FileSystem::on_notify(unsigned index) {
  do {
    queue(index).refuse_notification();
    while (take(index, chain_)) answer(index);
  } while (rest(index));
  interrupt(index);
}

void FileSystem::answer(unsigned index) {
  const std::uint64_t length = total_bytes(chain_.readable);
  if (length > share::FileServer::kMostBytes) return fail("a file system request longer than was agreed on");
  request_.resize(static_cast<std::size_t>(length));
  gather(chain_.readable, 0, request_);
  const std::uint64_t room = total_bytes(chain_.writable);
  server_.handle(request_, static_cast<std::size_t>(std::min<std::uint64_t>(room, share::FileServer::kMostBytes)),
                 reply_);
  scatter(memory(), chain_.writable, 0, reply_);
  queue(index).push(chain_.head, static_cast<std::uint32_t>(reply_.size()));
}

}  // namespace doppel::devices::virtio
