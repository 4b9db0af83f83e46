#include "control/http.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

namespace doppel::control {
namespace {

bool equal_ignoring_case(std::string_view left, std::string_view right) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(left, right, {}, lower, lower);
}

std::string_view trim(std::string_view text) {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

/// Cuts the first line off `text`, without its CR LF.
std::string_view take_line(std::string_view& text) {
  const std::size_t end = text.find("\r\n");
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 2);
  return line;
}

std::optional<std::size_t> parse_size(std::string_view text) {
  std::size_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

const char* reason(int status) {
  switch (status) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

ParsedRequest refuse(int status, std::string_view message) {
  ParsedRequest parsed;
  parsed.status = ParsedRequest::Status::Refused;
  parsed.refusal = fault(status, message);
  return parsed;
}

/// What the header fields say that matters here.
struct Fields {
  std::optional<std::size_t> content_length;
  bool close = false;
  bool expects_continue = false;
};

/// Nothing when all is well, else the refusal.
std::optional<ParsedRequest> read_fields(std::string_view head, Fields& fields) {
  while (!head.empty()) {
    const std::string_view line = take_line(head);
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0 || line[colon - 1] == ' ') {
      return refuse(400, "a header field is not \"name: value\"");
    }
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    if (equal_ignoring_case(name, "content-length")) {
      const auto length = parse_size(value);
      if (!length || (fields.content_length && fields.content_length != length)) {
        return refuse(400, "Content-Length is not one number");
      }
      fields.content_length = length;
    } else if (equal_ignoring_case(name, "transfer-encoding")) {
      return refuse(501, "Transfer-Encoding is not supported; send a Content-Length");
    } else if (equal_ignoring_case(name, "connection")) {
      if (equal_ignoring_case(value, "close")) fields.close = true;
    } else if (equal_ignoring_case(name, "expect")) {
      if (equal_ignoring_case(value, "100-continue")) fields.expects_continue = true;
    }
  }
  return std::nullopt;
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

ParsedRequest parse_request(std::string_view buffer) {
  const std::size_t head_end = buffer.find("\r\n\r\n");
  if (std::min(head_end, buffer.size()) > kMaxHead) return refuse(431, "the request's head is longer than 8 KiB");
  if (head_end == std::string_view::npos) return {};

  std::string_view head = buffer.substr(0, head_end + 2);
  const std::string_view line = take_line(head);
  const std::size_t first = line.find(' ');
  const std::size_t second = line.find(' ', first == std::string_view::npos ? first : first + 1);
  if (first == std::string_view::npos || second == std::string_view::npos) {
    return refuse(400, "the request line is not \"METHOD /path HTTP/1.1\"");
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, second - first - 1);
  const std::string_view version = line.substr(second + 1);
  if (method.empty() || !is_printable(method) || !target.starts_with('/') || !is_printable(target)) {
    return refuse(400, "the request line is not \"METHOD /path HTTP/1.1\"");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return refuse(505, "use HTTP/1.1");

  Fields fields;
  if (auto refusal = read_fields(head, fields)) return *refusal;
  const std::size_t length = fields.content_length.value_or(0);
  if (length > kMaxRequestBody) return refuse(413, "the request's body is longer than 64 KiB");

  ParsedRequest parsed;
  const std::size_t body_start = head_end + 4;
  if (buffer.size() - body_start < length) {
    parsed.expects_continue = fields.expects_continue;
    return parsed;
  }
  parsed.status = ParsedRequest::Status::Complete;
  parsed.consumed = body_start + length;
  parsed.request.method = method;
  parsed.request.target = target.substr(0, target.find('?'));
  parsed.request.body = buffer.substr(body_start, length);
  parsed.request.keep_alive = version == "HTTP/1.1" && !fields.close;
  return parsed;
}

std::string format_response(const HttpResponse& response, bool keep_alive) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nServer: doppel\r\nConnection: {}\r\n", response.status,
                                 reason(response.status), keep_alive ? "keep-alive" : "close");
  // RFC 9110, 8.6: no Content-Length with 204.
  if (response.status == 204) return head + "\r\n";
  head += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", response.body.size());
  return head + response.body;
}

HttpResponse fault(int status, std::string_view message) {
  const nlohmann::json body{{"fault_message", message}};
  return {status, body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

std::string format_request(std::string_view method, std::string_view target, std::string_view body) {
  std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method, target);
  if (!body.empty()) {
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  }
  return request + "\r\n" + std::string(body);
}

Result<HttpResponse> parse_response(std::string_view bytes) {
  const Error broken{"the machine's control socket gave no valid answer"};
  const std::size_t head_end = bytes.find("\r\n\r\n");
  if (head_end == std::string_view::npos || !bytes.starts_with("HTTP/1.1 ")) return broken;
  const auto status = parse_size(bytes.substr(9, 3));
  if (!status) return broken;
  std::string_view head = bytes.substr(0, head_end + 2);
  take_line(head);
  Fields fields;
  if (read_fields(head, fields)) return broken;
  const std::string_view body = bytes.substr(head_end + 4);
  if (body.size() != fields.content_length.value_or(0)) return broken;
  return HttpResponse{static_cast<int>(*status), std::string(body)};
}

}  // namespace doppel::control
