#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace doppel::debug {

/// The packet layer of GDB's remote serial protocol ("Remote Protocol", Overview): `$data#checksum`, acknowledged by
/// `+` or `-` until both sides agree to do without. Knows bytes, not sockets.
class PacketStream {
 public:
  struct Handler {
    std::function<void(std::string_view packet)> packet;     ///< a whole one, unescaped
    std::function<void()> interrupt;                         ///< Ctrl-C, the byte 03h between packets
    std::function<void(std::string_view bytes)> send_bytes;  ///< for the wire
  };

  /// The longest packet that either side may send, what frames it not counted.
  static constexpr std::size_t kMaxPacket = 0x4000;

  explicit PacketStream(Handler handler) : handler_(std::move(handler)) {}

  /// Bytes from the wire, cut anywhere. Calls the handler, which may call send().
  void receive(std::string_view bytes);
  /// Frames, escapes and sends; kept until acknowledged.
  void send(std::string_view packet);
  /// After the reply to QStartNoAckMode. An acknowledgement of that reply may still come, and is skipped.
  void stop_acknowledging() { acknowledges_ = false; }

 private:
  enum class Expect { Start, Data, FirstDigit, SecondDigit };

  void receive(char byte);
  void receive_between_packets(char byte);
  void finish_packet(unsigned expected_checksum);

  Handler handler_;
  Expect expect_ = Expect::Start;
  std::string data_;       ///< of the packet being received, still escaped
  bool too_long_ = false;  ///< it has passed kMaxPacket and will be refused
  unsigned checksum_ = 0;
  unsigned first_digit_ = 0;
  std::string last_sent_;  ///< framed, for a repetition
  bool acknowledges_ = true;
};

}  // namespace doppel::debug
