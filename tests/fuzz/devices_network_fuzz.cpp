#include <deque>
#include <mutex>

#include "devices/virtio/network.h"
#include "fuzz/virtio_fuzz.h"

namespace {

using namespace doppel;

/// The end of the wire: brings back what is sent there, and what the host's side says.
class Wire : public net::Backend {
 public:
  void attach(net::Receiver& receiver, std::mutex& lock) override {
    receiver_ = &receiver;
    lock_ = &lock;
  }
  std::uint16_t mtu() const override { return 1500; }
  bool receives_offloads() const override { return true; }
  void set_receive_offloads(const net::Offloads&) override {}
  void send(const net::FrameHeader& header, std::span<std::byte> frame) override {
    if (frame.size() > net::kMaxFrame) std::abort();
    deliver(header, frame);
  }
  void sent_all() override { receiver_->received_all(); }
  void resume_receiving() override {
    while (!waiting_.empty() && receiver_->receive({}, waiting_.front())) waiting_.pop_front();
  }

  void from_host(fuzz::Input& input) {
    const std::lock_guard guard(*lock_);
    net::FrameHeader header;
    header.flags = input.byte();
    header.gso_type = header.flags / 16;
    // Up to what is larger than the largest frame.
    const std::vector<std::byte> frame(input.byte() * std::size_t{260});
    deliver(header, frame);
    receiver_->received_all();
  }

 private:
  void deliver(const net::FrameHeader& header, std::span<const std::byte> frame) {
    if (waiting_.empty() && receiver_->receive(header, frame)) return;
    if (waiting_.size() < 8) waiting_.emplace_back(frame.begin(), frame.end());
  }

  net::Receiver* receiver_ = nullptr;
  std::mutex* lock_ = nullptr;
  std::deque<std::vector<std::byte>> waiting_;
};

}  // namespace

/// Drivers of the network card, with frames both ways.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  auto& memory = fuzz::quiet_memory();
  auto owned = std::make_unique<Wire>();
  Wire& wire = *owned;
  devices::virtio::Network device("fuzz", devices::virtio::MacAddress{2}, std::move(owned), memory);
  fuzz::VirtioFuzz(device, memory, 2, [&wire](fuzz::Input& input) {
    wire.from_host(input);
  }).run(fuzz::Input({data, size}));
  return 0;
}
