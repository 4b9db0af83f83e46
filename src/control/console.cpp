#include "control/console.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "control/unix_socket.h"

namespace doppel::control {
Console::~Console() {
  close();
}

void Console::serve(UniqueFd listener) {
  listener_ = std::move(listener);
  loop_.watch(listener_.get(), POLLIN, [this](short) { accept_all(); });
}

void Console::accept_all() {
  for (;;) {
    UniqueFd in = accept_unix(listener_.get());
    if (!in.valid()) return;
    UniqueFd out(::fcntl(in.get(), F_DUPFD_CLOEXEC, 0));
    if (!out.valid() || clients_.size() >= kMaxClients) continue;
    const int fd = in.get();
    auto queue = OutputQueue::create(loop_, out.get(), OutputQueue::WhenFull::Break, [this, fd] { drop(fd); });
    {
      const std::lock_guard guard(mutex_);
      clients_[fd] = {std::move(in), std::move(out), std::move(queue)};
    }
    loop_.watch(fd, input_.wants_more() ? POLLIN : 0, [this, fd](short) { receive(fd); });
  }
}

void Console::receive(int fd) {
  std::array<std::byte, 4096> buffer{};
  const ssize_t got = ::read(fd, buffer.data(), buffer.size());
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) return drop(fd);
  input_.push(std::span(buffer).first(static_cast<std::size_t>(got)));
  if (!input_.wants_more()) {
    for (const auto& [client, unused] : clients_) loop_.set_events(client, 0);
  }
}

void Console::input_wanted() {
  for (const auto& [client, unused] : clients_) loop_.set_events(client, POLLIN);
}

void Console::drop(int fd) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) return;
  found->second.queue->close();
  loop_.forget(fd);
  const std::lock_guard guard(mutex_);
  clients_.erase(found);
}

void Console::guest_output(std::span<const std::byte> bytes) {
  if (output_) output_->write(bytes);
  const std::lock_guard guard(mutex_);
  if (log_) log_->append(bytes);
  for (const auto& [fd, client] : clients_) client.queue->write(bytes);
}

void Console::close() {
  if (listener_.valid()) loop_.forget(listener_.get());
  listener_.reset();
  while (!clients_.empty()) drop(clients_.begin()->first);
}

}  // namespace doppel::control
