#include "cli/agent_client.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>

#include "base/bits.h"
#include "control/unix_socket.h"

namespace doppel::cli {
namespace {

constexpr std::size_t kLongestAnswer = 32;
constexpr int kRetryMs = 200;

bool read_exactly(int fd, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::read(fd, out.data(), out.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

void append(std::vector<std::byte>& to, const std::string& text) {
  const auto bytes = std::as_bytes(std::span{text});
  to.insert(to.end(), bytes.begin(), bytes.end());
  to.push_back(std::byte{0});
}

/// Zero: none.
void set_receive_limit(int socket, std::chrono::seconds limit) {
  const timeval time{limit.count(), 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
}

}  // namespace

Result<UniqueFd> connect_vsock(const control::VmPaths& paths, std::uint32_t port, std::chrono::seconds limit) {
  Result<UniqueFd> socket = control::connect_unix(paths.vsock_socket());
  if (!socket) return Error{"the machine has no vsock device: " + socket.error().message};
  if (!request_vsock(socket->get(), port) || !await_vsock(socket->get(), limit)) {
    return Error{fmt::format("nobody listens on port {} of the guest", port)};
  }
  return socket;
}

bool request_vsock(int socket, std::uint32_t port) {
  const std::string line = fmt::format("CONNECT {}\n", port);
  return write_all(socket, std::as_bytes(std::span{line})).ok();
}

bool await_vsock(int socket, std::chrono::seconds limit) {
  set_receive_limit(socket, limit);
  std::string answer;
  std::byte byte{};
  while (answer.size() < kLongestAnswer && read_exactly(socket, {&byte, 1})) {
    if (byte == std::byte{'\n'}) break;
    answer += static_cast<char>(byte);
  }
  set_receive_limit(socket, {});
  return answer.starts_with("OK ");
}

Result<UniqueFd> connect_agent(const control::RunningVm& vm, std::chrono::seconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    Result<UniqueFd> socket = connect_vsock(vm.paths, agent::kPort);
    if (socket) return socket;
    if (std::chrono::steady_clock::now() >= end) {
      return Error{fmt::format(
          "{}: no agent answers in the guest ({}); the built-in guest and images of doppel image build have one, "
          "doppel agent --help says how another guest gets it",
          vm.name, socket.error().message)};
    }
    if (control::wait_for_end(vm, kRetryMs)) return Error{fmt::format("the machine {} has ended", vm.name)};
  }
}

bool power_off_by_agent(const control::RunningVm& vm) {
  constexpr std::chrono::seconds kLimit{2};
  const Result<UniqueFd> agent = connect_vsock(vm.paths, agent::kPort, kLimit);
  return agent && send_start(agent->get(), {.arguments = {"poweroff"}}) && receive_message(agent->get());
}

bool send_message(int fd, agent::Kind kind, std::span<const std::byte> body) {
  std::vector<std::byte> message(agent::kHeaderBytes);
  message[0] = static_cast<std::byte>(kind);
  store_le(&message[1], static_cast<std::uint32_t>(body.size()));
  message.insert(message.end(), body.begin(), body.end());
  return write_all(fd, message).ok();
}

std::optional<AgentMessage> receive_message(int fd) {
  std::array<std::byte, agent::kHeaderBytes> header{};
  if (!read_exactly(fd, header)) return std::nullopt;
  const auto size = load_le<std::uint32_t>(&header[1]);
  if (size > agent::kMaxBody) return std::nullopt;
  AgentMessage message{static_cast<agent::Kind>(header[0]), std::vector<std::byte>(size)};
  if (!read_exactly(fd, message.body)) return std::nullopt;
  return message;
}

bool send_renewal(int fd, const Renewal& renewal) {
  std::vector<std::byte> body(agent::kRenewFixedBytes);
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  constexpr std::uint64_t kSecond = 1'000'000'000;
  store_le(body.data(), static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec));
  if (::getrandom(&body[sizeof(std::uint64_t)], agent::kRandomBytes, 0) != agent::kRandomBytes) return false;
  append(body, renewal.host_name);
  for (const std::string& address : renewal.addresses) append(body, address);
  return body.size() <= agent::kMaxBody && send_message(fd, agent::Kind::Renew, body);
}

bool receive_renewed(int fd) {
  const std::optional<AgentMessage> answer = receive_message(fd);
  return answer && answer->kind == agent::Kind::Exit;
}

bool send_start(int fd, const AgentCommand& command) {
  std::vector<std::byte> body(agent::kStartFixedBytes);
  body[0] = std::byte{command.terminal};
  store_le(&body[1], command.rows);
  store_le(&body[3], command.columns);
  append(body, command.term);
  for (const std::string& argument : command.arguments) append(body, argument);
  return body.size() <= agent::kMaxBody && send_message(fd, agent::Kind::Start, body);
}

}  // namespace doppel::cli
