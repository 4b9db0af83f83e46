#include "control/client.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/system_error.h"
#include "control/unix_socket.h"

namespace doppel::control {
namespace {

constexpr std::size_t kMaxResponse = std::size_t{256} << 20;  // the inspection of a machine with much state

std::optional<std::string> fault_message(const std::string& body) {
  const auto parsed = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || !parsed.contains("fault_message") || !parsed["fault_message"].is_string()) return {};
  return parsed["fault_message"].get<std::string>();
}

Result<std::string> read_to_end(int fd, std::chrono::steady_clock::time_point deadline) {
  std::string received;
  std::array<char, 65536> buffer{};
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd waiting{fd, POLLIN, 0};
    const int ready = left > 0 ? ::poll(&waiting, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Error{"the machine does not answer on its control socket"};
    const ssize_t got = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0) return system_error("cannot read from the control socket");
    if (got == 0) return received;
    received.append(buffer.data(), static_cast<std::size_t>(got));
    if (received.size() > kMaxResponse) return Error{"the machine's answer is too long"};
  }
}

}  // namespace

Result<HttpResponse> call(const std::string& socket_path, std::string_view method, std::string_view target,
                          std::string_view body, std::chrono::milliseconds patience) {
  Result<UniqueFd> fd = connect_unix(socket_path);
  if (!fd) return fd.error();
  const std::string request = format_request(method, target, body);
  if (::send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return system_error("cannot write to " + socket_path);
  }
  Result<std::string> received = read_to_end(fd->get(), std::chrono::steady_clock::now() + patience);
  if (!received) return received.error();
  Result<HttpResponse> response = parse_response(*received);
  if (response && response->status / 100 != 2) {
    return Error{fault_message(response->body).value_or(fmt::format("the machine answered {}", response->status))};
  }
  return response;
}

}  // namespace doppel::control
