-- The home-delivery system's database, and the account Debezium reads it with.

create user 'debezium'@'127.0.0.1' identified by 'dbz';

grant select, reload, show databases, lock tables, replication slave, replication client
   on *.*
   to 'debezium'@'127.0.0.1';

create database inventory;

create table inventory.customers (
  id             int not null auto_increment,
  name           varchar(255),
  email          varchar(255),
  password       varchar(255),
  address_line_1 varchar(255),
  address_line_2 varchar(255),
  city           varchar(255),
  state          varchar(255),
  zipcode        varchar(255),
  phonenumber    varchar(255),
  primary key (id)
);
