#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <condition_variable>
#include <mutex>

#include "devices/virtio/vsock.h"
#include "fuzz/virtio_fuzz.h"

namespace {

using namespace doppel;

/// The programs of the host: those that connect, and those that listen.
class Host {
 public:
  explicit Host(net::Reactor& reactor) : reactor_(reactor), barrier_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    // A name of the kernel's choice in the abstract namespace.
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    listener = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address.sun_family) != 0) std::abort();
    address_length_ = sizeof address_;
    ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address_), &address_length_);
    ::listen(listener.get(), 8);
    reactor_.watch(barrier_.get(), EPOLLIN, [this](std::uint32_t) {
      std::uint64_t count = 0;
      if (::read(barrier_.get(), &count, sizeof count) < 0) std::abort();
      const std::lock_guard guard(mutex_);
      passed_ = true;
      has_passed_.notify_all();
    });
  }
  ~Host() {
    reactor_.forget(barrier_.get());
    reactor_.synchronize();
  }

  /// Where the guest's connections to a port lead.
  UniqueFd accept(std::uint32_t port) {
    std::array<int, 2> ends{};
    if (port % 8 == 7 || ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0)
      return {};
    sockets_.emplace_back(ends[1]);
    return UniqueFd(ends[0]);
  }

  void act(fuzz::Input& input) {
    const std::uint8_t what = input.byte();
    if (what % 8 == 0) {
      UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address_), address_length_) == 0)
        sockets_.push_back(std::move(fd));
    } else if (!sockets_.empty()) {
      const std::size_t which = what / 8 % sockets_.size();
      use(sockets_[which], what % 8, input);
      if (!sockets_[which].valid()) sockets_.erase(sockets_.begin() + static_cast<std::ptrdiff_t>(which));
    }
    settle();
  }

  UniqueFd listener;

 private:
  static void use(UniqueFd& socket, unsigned how, fuzz::Input& input) {
    switch (how) {
      case 1: {
        const std::string line = "CONNECT " + std::to_string(input.byte()) + "\n";
        static_cast<void>(::send(socket.get(), line.data(), line.size(), MSG_NOSIGNAL));
        return;
      }
      case 2: {
        const auto bytes = input.bytes(input.byte());
        static_cast<void>(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
        return;
      }
      case 3: {
        static const std::vector<std::byte> kMuch(std::size_t{1} << 18);
        static_cast<void>(::send(socket.get(), kMuch.data(), kMuch.size(), MSG_NOSIGNAL));
        return;
      }
      case 4:
      case 5: {
        static std::vector<std::byte> much(std::size_t{1} << 18);
        static_cast<void>(::recv(socket.get(), much.data(), how == 4 ? much.size() : 10, 0));
        return;
      }
      case 6:
        ::shutdown(socket.get(), input.byte() % 3);
        return;
      default:
        socket = UniqueFd();
    }
  }

  /// Waits until the reactor has seen what was done.
  void settle() {
    const std::uint64_t one = 1;
    if (::write(barrier_.get(), &one, sizeof one) < 0) std::abort();
    std::unique_lock guard(mutex_);
    has_passed_.wait(guard, [this] { return passed_; });
    passed_ = false;
  }

  net::Reactor& reactor_;
  const UniqueFd barrier_;
  sockaddr_un address_{};
  socklen_t address_length_ = 0;
  std::vector<UniqueFd> sockets_;
  std::mutex mutex_;
  std::condition_variable has_passed_;
  bool passed_ = false;
};

}  // namespace

/// Drivers of vsock with packets of all kinds, and programs of the host that connect, send, stop and go.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto reactor = std::move(net::Reactor::create()).value();
  auto& memory = fuzz::quiet_memory();
  Host host(*reactor);
  devices::virtio::Vsock device({.name = "fuzz",
                                 .listener = std::move(host.listener),
                                 .connect = [&host](std::uint32_t port) { return host.accept(port); }},
                                *reactor, memory);
  fuzz::VirtioFuzz(device, memory, 3, [&host](fuzz::Input& input) { host.act(input); }).run(fuzz::Input({data, size}));
  return 0;
}
