#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

#include "state/format.h"
#include "state/visitor.h"

namespace doppel::state {

/// Writes the state down; format.h has the layout. Use save() of snapshot_io.h.
class Saver : public Visitor {
 public:
  std::vector<std::byte> take() { return std::move(out_); }

 protected:
  void scalar(unsigned number, std::string_view name, ScalarType type, std::uint64_t& bits) override;
  void bytes(unsigned number, std::string_view name, std::span<std::byte> value) override;
  void blob(unsigned number, std::string_view name, std::vector<std::byte>& value) override;
  void text(unsigned number, std::string_view name, std::string& value) override;
  void begin_record(unsigned number, std::string_view name) override;
  void end_record() override;

 private:
  void header(unsigned number, format::Kind kind, std::size_t length);
  void append(std::span<const std::byte> bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }

  std::vector<std::byte> out_;
  std::vector<std::size_t> open_records_;  ///< where in out_ their payloads start
};

}  // namespace doppel::state
