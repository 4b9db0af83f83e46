#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

/// As much of HTTP/1.1 (RFC 9112) as a control socket needs: requests and responses with a Content-Length. Pure
/// functions; the bytes are hostile.
namespace doppel::control {

inline constexpr std::size_t kMaxHead = 8192;
inline constexpr std::size_t kMaxRequestBody = std::size_t{64} << 10;

struct HttpRequest {
  std::string method;  ///< upper case, as sent
  std::string target;  ///< the path, without the query
  std::string body;
  bool keep_alive = true;
};

struct HttpResponse {
  int status = 204;
  std::string body{};  ///< JSON; empty with 204
  /// Where this is set, the answer is yet to come: it is called with what takes the answer, once, in any thread.
  std::function<void(std::function<void(HttpResponse)> answer)> later{};
};

struct ParsedRequest {
  enum class Status {
    Incomplete,  ///< more bytes are needed
    Complete,    ///< `request` is valid and took `consumed` bytes
    Refused,     ///< `refusal` is the answer; nothing sensible can follow on this connection
  };
  Status status = Status::Incomplete;
  std::size_t consumed = 0;
  HttpRequest request;
  HttpResponse refusal;
  /// Incomplete, and the client waits for "100 Continue" before it sends the body.
  bool expects_continue = false;
};

/// The first request in `buffer`, which is all that the connection has sent and nobody consumed yet.
ParsedRequest parse_request(std::string_view buffer);

/// The response as bytes for the connection.
std::string format_response(const HttpResponse& response, bool keep_alive);

/// {"fault_message": `message`} with this status, as Firecracker answers.
HttpResponse fault(int status, std::string_view message);

/// A client's request, which asks for the connection to be closed after the answer.
std::string format_request(std::string_view method, std::string_view target, std::string_view body);
/// A whole response, as it was read until the connection was closed.
Result<HttpResponse> parse_response(std::string_view bytes);

}  // namespace doppel::control
