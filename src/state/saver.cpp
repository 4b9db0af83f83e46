#include "state/saver.h"

#include "base/bits.h"

namespace doppel::state {

void Saver::header(unsigned number, format::Kind kind, std::size_t length) {
  const std::size_t start = out_.size();
  out_.resize(start + format::kHeaderSize);
  store_le(&out_[start], static_cast<std::uint32_t>(number));
  store_le(&out_[start + 4], kind);
  store_le(&out_[start + 5], static_cast<std::uint32_t>(length));
}

void Saver::scalar(unsigned number, std::string_view /*name*/, ScalarType type, std::uint64_t& bits) {
  const std::size_t size = format::scalar_size(type);
  header(number, format::kind_of(type), size);
  append(std::as_bytes(std::span{&bits, 1}).first(size));
}

void Saver::bytes(unsigned number, std::string_view /*name*/, std::span<std::byte> value) {
  header(number, format::Kind::Bytes, value.size());
  append(value);
}

void Saver::blob(unsigned number, std::string_view /*name*/, std::vector<std::byte>& value) {
  header(number, format::Kind::Blob, value.size());
  append(value);
}

void Saver::text(unsigned number, std::string_view /*name*/, std::string& value) {
  header(number, format::Kind::Text, value.size());
  append(std::as_bytes(std::span{value}));
}

void Saver::begin_record(unsigned number, std::string_view /*name*/) {
  header(number, format::Kind::Record, 0);
  open_records_.push_back(out_.size());
}

void Saver::end_record() {
  const std::size_t start = open_records_.back();
  open_records_.pop_back();
  store_le(&out_[start - 4], static_cast<std::uint32_t>(out_.size() - start));
}

}  // namespace doppel::state
