#pragma once

#include <boost/intrusive/list.hpp>

namespace fedagent::detail {

/// Whoever goes on until the store is stopped, and is told then.
class StopListener : public boost::intrusive::list_base_hook<
                         boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
 public:
  virtual void store_stopped() noexcept = 0;

 protected:
  ~StopListener() = default;
};

using StopListeners =
    boost::intrusive::list<StopListener, boost::intrusive::constant_time_size<false>>;

}  // namespace fedagent::detail
