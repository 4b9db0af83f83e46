#include "state/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/bits.h"

namespace doppel::state {

Loader::Loader(std::span<const std::byte> bytes) {
  records_.push_back({});
  records_.back().entries = parse(bytes);
}

void Loader::fail(std::string_view name, const std::string& what) {
  if (error_) return;
  std::string path;
  for (const Record& record : records_) {
    if (!record.name.empty()) path += record.name + ".";
  }
  path += name;
  if (path.ends_with('.')) path.pop_back();
  error_ = Error{path.empty() ? fmt::format("the saved state is damaged: {}", what)
                              : fmt::format("the saved state is damaged at {}: {}", path, what)};
}

void Loader::require(bool condition, std::string_view what) {
  if (!condition) fail("", std::string(what));
}

std::vector<Loader::Entry> Loader::parse(std::span<const std::byte> bytes) {
  std::vector<Entry> entries;
  while (!bytes.empty()) {
    if (bytes.size() < format::kHeaderSize) {
      fail("", "it ends inside a field's header");
      return {};
    }
    const auto number = load_le<std::uint32_t>(bytes.data());
    const auto kind = load_le<format::Kind>(&bytes[4]);
    const auto length = load_le<std::uint32_t>(&bytes[5]);
    bytes = bytes.subspan(format::kHeaderSize);
    if (length > bytes.size()) {
      fail("", fmt::format("field {} is longer than what is left", number));
      return {};
    }
    entries.push_back({number, kind, false, bytes.first(length)});
    bytes = bytes.subspan(length);
  }
  const auto by_number = [](const Entry& left, const Entry& right) { return left.number < right.number; };
  std::sort(entries.begin(), entries.end(), by_number);
  const auto twice = std::adjacent_find(entries.begin(), entries.end(), [](const Entry& left, const Entry& right) {
    return left.number == right.number;
  });
  if (twice != entries.end()) fail("", fmt::format("field {} is there twice", twice->number));
  return entries;
}

std::optional<std::span<const std::byte>> Loader::take(unsigned number, std::string_view name, format::Kind kind) {
  if (error_) return std::nullopt;
  std::vector<Entry>& entries = records_.back().entries;
  const auto found = std::lower_bound(entries.begin(), entries.end(), number,
                                      [](const Entry& entry, unsigned wanted) { return entry.number < wanted; });
  if (found == entries.end() || found->number != number) return std::nullopt;
  if (found->used) {
    fail(name, fmt::format("field {} is described twice", number));
    return std::nullopt;
  }
  if (found->kind != kind) {
    fail(name, fmt::format("field {} has another type", number));
    return std::nullopt;
  }
  found->used = true;
  return found->payload;
}

void Loader::scalar(unsigned number, std::string_view name, ScalarType type, std::uint64_t& bits) {
  const auto payload = take(number, name, format::kind_of(type));
  if (!payload) return;
  const std::size_t size = format::scalar_size(type);
  if (payload->size() != size) return fail(name, fmt::format("{} bytes instead of {}", payload->size(), size));
  std::uint64_t value = 0;
  std::memcpy(&value, payload->data(), size);
  if (type == ScalarType::Bool && value > 1) return fail(name, fmt::format("{} is neither true nor false", value));
  if (format::is_signed(type)) value = static_cast<std::uint64_t>(sign_extend(value, static_cast<unsigned>(size * 8)));
  bits = value;
}

void Loader::bytes(unsigned number, std::string_view name, std::span<std::byte> value) {
  const auto payload = take(number, name, format::Kind::Bytes);
  if (!payload) return;
  if (payload->size() != value.size()) {
    return fail(name, fmt::format("{} bytes instead of {}", payload->size(), value.size()));
  }
  std::copy(payload->begin(), payload->end(), value.begin());
}

void Loader::blob(unsigned number, std::string_view name, std::vector<std::byte>& value) {
  if (const auto payload = take(number, name, format::Kind::Blob)) value.assign(payload->begin(), payload->end());
}

void Loader::text(unsigned number, std::string_view name, std::string& value) {
  const auto payload = take(number, name, format::Kind::Text);
  if (payload) value.assign(reinterpret_cast<const char*>(payload->data()), payload->size());
}

void Loader::begin_record(unsigned number, std::string_view name) {
  const auto payload = take(number, name, format::Kind::Record);
  records_.push_back({std::string(name), {}});
  if (payload) records_.back().entries = parse(*payload);
}

void Loader::check_all_used() {
  const std::vector<Entry>& entries = records_.back().entries;
  const auto unknown = std::find_if(entries.begin(), entries.end(), [](const Entry& entry) { return !entry.used; });
  if (unknown != entries.end()) {
    fail("", fmt::format("field {} is unknown here; a newer version may have written it", unknown->number));
  }
}

void Loader::end_record() {
  check_all_used();
  records_.pop_back();
}

Result<void> Loader::finish() {
  check_all_used();
  if (error_) return *error_;
  return {};
}

void Loader::run_actions() {
  for (const auto& action : actions_) action();
}

}  // namespace doppel::state
