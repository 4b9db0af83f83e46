#include "cli/input_source.h"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace doppel::cli {

InputSource::InputSource(control::EventLoop& loop, int fd, std::function<void(std::span<const std::byte>)> on_bytes,
                         std::function<void()> on_end)
    : loop_(loop), fd_(fd), on_bytes_(std::move(on_bytes)), on_end_(std::move(on_end)) {}

InputSource::~InputSource() {
  if (flowing_) loop_.forget(fd_);
}

void InputSource::set_flowing(bool flowing) {
  if (ended_ || flowing == flowing_) return;
  flowing_ = flowing;
  // Not set_events: a hang-up would be reported all the time while nobody reads.
  if (flowing) {
    loop_.watch(fd_, POLLIN, [this](short) { read(); });
  } else {
    loop_.forget(fd_);
  }
}

void InputSource::read() {
  std::array<std::byte, 4096> buffer{};
  const ssize_t got = ::read(fd_, buffer.data(), buffer.size());
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got > 0) return on_bytes_(std::span(buffer).first(static_cast<std::size_t>(got)));
  set_flowing(false);
  ended_ = true;
  on_end_();
}

}  // namespace doppel::cli
