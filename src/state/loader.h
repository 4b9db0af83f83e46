#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "state/format.h"
#include "state/visitor.h"

namespace doppel::state {

/// Replaces state by saved bytes, which are hostile. Use load() of snapshot_io.h.
///
/// The bytes of a record are only looked at when the component describes that record, so the depth and the number of
/// fields that are followed are the component's, whatever the bytes say. The first error is kept and ends the work:
/// everything after it reads as absent.
class Loader : public Visitor {
 public:
  explicit Loader(std::span<const std::byte> bytes);

  bool is_loading() const override { return true; }
  void on_loaded(std::function<void()> action) override { actions_.push_back(std::move(action)); }
  void require(bool condition, std::string_view what) override;

  /// After describe(): the first error, or that there was none and all bytes were used.
  Result<void> finish();
  void run_actions();

 protected:
  void scalar(unsigned number, std::string_view name, ScalarType type, std::uint64_t& bits) override;
  void bytes(unsigned number, std::string_view name, std::span<std::byte> value) override;
  void blob(unsigned number, std::string_view name, std::vector<std::byte>& value) override;
  void text(unsigned number, std::string_view name, std::string& value) override;
  void begin_record(unsigned number, std::string_view name) override;
  void end_record() override;

 private:
  struct Entry {
    std::uint32_t number;
    format::Kind kind;
    bool used = false;
    std::span<const std::byte> payload;
  };
  /// A record that is being described: its fields, ascending by number.
  struct Record {
    std::string name;
    std::vector<Entry> entries;
  };

  std::vector<Entry> parse(std::span<const std::byte> bytes);
  /// The payload of a field of the innermost record; nothing when it is absent or not as it has to be.
  std::optional<std::span<const std::byte>> take(unsigned number, std::string_view name, format::Kind kind);
  void check_all_used();
  void fail(std::string_view name, const std::string& what);

  std::vector<Record> records_;
  std::vector<std::function<void()>> actions_;
  std::optional<Error> error_;
};

}  // namespace doppel::state
