#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "net/backend.h"
#include "net/reactor.h"

namespace doppel::net {

/// A tap interface of the host (linux/if_tun.h), which needs CAP_NET_ADMIN or an interface that was made for this user:
/// to be opened before a machine gives up its privileges.
struct TapInterface {
  UniqueFd fd;
  std::uint16_t mtu = 0;

  /// Opens `name`, or makes an interface of that name.
  static Result<TapInterface> open(const std::string& name);
};

/// A network card at a tap interface. The host's kernel takes checksums and segments over, both ways.
class Tap : public Backend {
 public:
  /// `reactor` outlives it.
  Tap(TapInterface interface, Reactor& reactor);
  ~Tap() override;

  void attach(Receiver& receiver, std::mutex& lock) override;
  std::uint16_t mtu() const override { return interface_.mtu; }
  bool receives_offloads() const override { return true; }
  void set_receive_offloads(const Offloads& offloads) override;
  void send(const FrameHeader& header, std::span<std::byte> frame) override;
  void sent_all() override {}
  void resume_receiving() override;

 private:
  void on_ready();
  bool deliver();

  const TapInterface interface_;
  Reactor& reactor_;
  Receiver* receiver_ = nullptr;
  std::mutex* lock_ = nullptr;
  std::vector<std::byte> buffer_;
  std::size_t waiting_ = 0;  ///< bytes in buffer_ for which the guest had no room
};

}  // namespace doppel::net
