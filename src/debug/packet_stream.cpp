#include "debug/packet_stream.h"

#include <fmt/format.h>

#include "debug/hex.h"

namespace doppel::debug {
namespace {

constexpr char kInterrupt = 3, kEscape = '}';
constexpr char kEscapeBit = 0x20;

std::string unescape(std::string_view data) {
  std::string plain;
  plain.reserve(data.size());
  for (std::size_t i = 0; i < data.size(); ++i) {
    if (data[i] == kEscape && i + 1 < data.size())
      plain += static_cast<char>(data[++i] ^ kEscapeBit);
    else
      plain += data[i];
  }
  return plain;
}

std::string escape(std::string_view data) {
  std::string escaped;
  escaped.reserve(data.size());
  for (const char c : data) {
    if (c == '#' || c == '$' || c == kEscape || c == '*') {
      escaped += kEscape;
      escaped += static_cast<char>(c ^ kEscapeBit);
    } else {
      escaped += c;
    }
  }
  return escaped;
}

unsigned checksum(std::string_view data) {
  unsigned sum = 0;
  for (const char c : data) sum += static_cast<unsigned char>(c);
  return sum & 0xFF;
}

}  // namespace

void PacketStream::receive(std::string_view bytes) {
  for (const char byte : bytes) receive(byte);
}

void PacketStream::receive(char byte) {
  switch (expect_) {
    case Expect::Start:
      return receive_between_packets(byte);
    case Expect::Data:
      if (byte == '#') {
        expect_ = Expect::FirstDigit;
        return;
      }
      // A dollar sign is never data: the packet before it was cut off.
      if (byte == '$') return receive_between_packets(byte);
      checksum_ += static_cast<unsigned char>(byte);
      if (data_.size() < kMaxPacket)
        data_ += byte;
      else
        too_long_ = true;
      return;
    case Expect::FirstDigit:
      first_digit_ = static_cast<unsigned>(number_from_hex({&byte, 1}).value_or(0));
      expect_ = Expect::SecondDigit;
      return;
    case Expect::SecondDigit:
      expect_ = Expect::Start;
      return finish_packet(first_digit_ << 4 | static_cast<unsigned>(number_from_hex({&byte, 1}).value_or(0)));
  }
}

void PacketStream::receive_between_packets(char byte) {
  if (byte == '$') {
    expect_ = Expect::Data;
    data_.clear();
    too_long_ = false;
    checksum_ = 0;
  } else if (byte == kInterrupt) {
    handler_.interrupt();
  } else if (byte == '-' && acknowledges_ && !last_sent_.empty()) {
    handler_.send_bytes(last_sent_);
  }
}

void PacketStream::finish_packet(unsigned expected_checksum) {
  if (acknowledges_) {
    const bool intact = (checksum_ & 0xFF) == expected_checksum;
    handler_.send_bytes(intact ? "+" : "-");
    if (!intact) return;
  }
  // What is too long to be kept is answered like what is not understood.
  handler_.packet(too_long_ ? std::string{} : unescape(data_));
}

void PacketStream::send(std::string_view packet) {
  const std::string escaped = escape(packet);
  last_sent_ = fmt::format("${}#{:02x}", escaped, checksum(escaped));
  handler_.send_bytes(last_sent_);
}

}  // namespace doppel::debug
