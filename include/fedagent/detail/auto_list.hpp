#pragma once

#include <boost/intrusive/list.hpp>

namespace fedagent::detail {

/// A place in an `AutoList`, which it leaves when it is destroyed.
using AutoHook =
    boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

template <class T>
using AutoList = boost::intrusive::list<T, boost::intrusive::constant_time_size<false>>;

}  // namespace fedagent::detail
